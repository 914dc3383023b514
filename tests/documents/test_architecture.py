"""ARCHITECTURE.md, the packages' reading orders and the maps in READMEs name what exists, and all of it."""

import re
from pathlib import Path

import pytest

from tests.documents.lines import PAGE, ROOT, lines_of, product_files, tables

PACKAGES = [
    "protocol",
    "local",
    "client",
    "ledger",
    "audit",
    "orchestrator",
    "rollout_worker",
    "trainer",
    "rollcall",
    "devchain",
    "contracts/tools",
]
MAPS = {"orchestrator/README.md": "orchestrator", "rollout_worker/README.md": "rollout_worker"}
PAGES = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    *MAPS,
    *(str(page.relative_to(ROOT)) for page in ROOT.glob("docs/*.md")),
    *(str(page.relative_to(ROOT)) for page in ROOT.glob("protocol/**/*.md")),
]
FILE = re.compile(r"(?<![\w/.…-])([\w/]*\w\.(?:py|lua|sol|md))\b")
LINK = re.compile(r"\]\(([^)#\s]*)(#[^)\s]*)?\)")
MOST_CORE_LINES = 11_500
TOLERANCE = 0.1


def names_of(folder: str) -> set[str]:
    """Return the product files under a folder, without those that only hold a docstring."""
    return {name for name in product_files(f"{folder}/") if not name.endswith("__init__.py")}


def folders() -> list[str]:
    """Return every package and every folder with product files within one."""
    parents = {
        str(Path(name).parent) for package in PACKAGES for name in product_files(f"{package}/")
    }
    return sorted(parents)


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_exists(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    tracked = [str(path.relative_to(ROOT)) for path in _tracked()]
    missing = {
        name
        for name in FILE.findall(text)
        if not any(path == name or path.endswith(f"/{name}") for path in tracked)
    }
    assert not missing, f"{page} names files that do not exist: {', '.join(sorted(missing))}"


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_somewhere(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    for target, anchor in LINK.findall(text):
        if "://" in target:
            continue
        goal = (ROOT / page).parent / target if target else ROOT / page
        assert goal.exists(), f"{page} links to {target}"
        if anchor:
            assert anchor[1:] in _anchors(goal.read_text("utf-8")), f"{page}: {target}{anchor}"


def test_every_product_folder_is_named() -> None:
    text = PAGE.read_text("utf-8")
    missing = [folder for folder in folders() if f"{folder}/" not in text]
    assert not missing, f"ARCHITECTURE.md does not name {', '.join(missing)}"


def test_line_counts_are_true_to_a_tenth() -> None:
    for table in tables(PAGE.read_text("utf-8")):
        total = table.pop("all")
        for name, stated in table.items():
            found = lines_of(name)
            most = max(10, TOLERANCE * found)
            assert abs(stated - found) <= most, (
                f"{name} has {found} lines, {stated} are stated: python -m tests.documents.lines"
            )
        assert total == sum(table.values())


def test_the_core_path_can_be_read_in_a_day() -> None:
    packages, core = tables(PAGE.read_text("utf-8"))
    assert set(packages) - {"all"} == {f"{package}/" for package in PACKAGES}
    assert sum(lines_of(name) for name in core if name != "all") <= MOST_CORE_LINES


@pytest.mark.parametrize("page", MAPS)
def test_a_map_names_every_file_of_its_package(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    missing = [name for name in names_of(MAPS[page]) if not _is_named(name, MAPS[page], text)]
    assert not missing, f"{page} does not name {', '.join(sorted(missing))}"


@pytest.mark.parametrize("folder", folders())
def test_a_reading_order_names_every_file_beside_it(folder: str) -> None:
    """A package names its files in its `__init__`, or a package above it does."""
    above = [parent for parent in (ROOT / folder, *(ROOT / folder).parents) if parent != ROOT]
    inits = [parent / "__init__.py" for parent in above if (parent / "__init__.py").exists()]
    words = set(re.findall(r"\w+", "\n".join(init.read_text("utf-8") for init in inits)))
    files = [Path(name) for name in names_of(folder) if name.endswith(".py")]
    beside = {file.stem for file in files if file.parent == Path(folder)}
    missing = beside - words
    assert not missing, f"no __init__.py at or above {folder} names {', '.join(sorted(missing))}"


def _is_named(name: str, package: str, text: str) -> bool:
    """A file is named by its path, or by its name beside a row's folder; scripts by their folder."""
    within = name.removeprefix(f"{package}/")
    folder = str(Path(within).parent)
    by_folder = re.search(rf"`{re.escape(folder)}/`", text) is not None
    return f"`{within}`" in text or f"`{name}`" in text or (within.endswith(".lua") and by_folder)


def _tracked() -> list[Path]:
    kinds = ("*.py", "*.lua", "*.sol", "*.md")
    skipped = {".venv", "node_modules", "build", "out", ".git"}
    return [path for kind in kinds for path in ROOT.rglob(kind) if not skipped & set(path.parts)]


def _anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives a page's headings."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", title.replace("`", "").lower()).replace(" ", "-")
        for title in titles
    }
