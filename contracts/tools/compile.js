// Reads standard-json on stdin, resolves imports from node_modules, writes standard-json on stdout.
const fs = require("fs");
const path = require("path");
const solc = require("solc");

const findImports = (name) => {
  try {
    return { contents: fs.readFileSync(path.join(__dirname, "..", "node_modules", name), "utf8") };
  } catch (error) {
    return { error: `${name}: ${error.message}; run npm ci in contracts/` };
  }
};
const input = fs.readFileSync(0, "utf8");
process.stdout.write(solc.compile(input, { import: findImports }));
