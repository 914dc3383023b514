"""Documents held to what they describe: files named exist, files are named, counts and tables are true."""
