"""The size and shape of the package at one or more commits, side by side, as a Markdown table.

    python scripts/house.py [COMMIT …]

A commit is read from git's store, nothing is checked out; `.` is the working tree. Without arguments: HEAD and `.`.
Numbers are a place to look, not a verdict.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePosixPath

PACKAGE = "gradiend"
WORKING_TREE = "."
SMALL, LARGE, LONG = 60, 500, 80
"""Lines below which a file is small, above which it is large, and above which a function is long."""
WORD = re.compile("causal", re.IGNORECASE)
CLASSES = "Trainer", "TextPredictionTrainer"
KINDS = "code", "docstrings", "comments", "imports", "blank"
Definition = ast.FunctionDef | ast.AsyncFunctionDef


def sources(commit: str) -> dict[str, str]:
    """Module name → source, for every file of the package; a package's own file is `….__init__`."""
    if commit == WORKING_TREE:
        found = {path.as_posix(): path.read_bytes() for path in Path(PACKAGE).rglob("*.py")}
    else:
        done = subprocess.run(["git", "archive", commit, PACKAGE], capture_output=True, check=False)
        if done.returncode:
            raise SystemExit(f"git archive {commit} {PACKAGE}: {done.stderr.decode().strip()}")
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            members = [member for member in archive if member.name.endswith(".py")]
            found = {member.name: archive.extractfile(member).read() for member in members}  # type: ignore[union-attr]
    return {".".join(PurePosixPath(name).with_suffix("").parts): text.decode() for name, text in sorted(found.items())}


class Module:
    """One file: what kind each of its lines is, its functions, its classes, and what it imports."""

    def __init__(self, name: str, source: str, known: Iterable[str]) -> None:
        self.name = name
        self.folder = name.rpartition(".")[0]
        self.lines = list(io.StringIO(source))
        self.nodes = list(ast.walk(ast.parse(source)))
        self.kinds = self._kinds()
        self.imports = set(self._imports(set(known))) - {name}

    def _kinds(self) -> list[str]:
        """The kind of each line. A string that is a statement documents what stands before it or around it."""
        kinds = [
            "blank" if not line.strip() else "comments" if line.lstrip().startswith("#") else "code"
            for line in self.lines
        ]
        texts = {node for node in self.nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        statements = [node.value for node in self.nodes if isinstance(node, ast.Expr) and node.value in texts]
        spans: list[tuple[str, ast.stmt | ast.expr]] = [("code", node) for node in texts]  # blank and # within a string
        spans += [("docstrings", node) for node in statements]
        spans += [("imports", node) for node in self.nodes if isinstance(node, ast.Import | ast.ImportFrom)]
        for kind, node in spans:
            for number in range(node.lineno - 1, node.end_lineno or 0):
                kinds[number] = kind
        return kinds

    def _imports(self, known: set[str]) -> Iterator[str]:
        """Modules of the package that this one imports, within functions too."""
        for node in self.nodes:
            if isinstance(node, ast.Import):
                wanted = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                above = self.name.split(".")[: -node.level] if node.level else []
                base = ".".join([*above, *([node.module] if node.module else [])])
                wanted = [f"{base}.{alias.name}" for alias in node.names]
                wanted = [name if {name, f"{name}.__init__"} & known else base for name in wanted]
            else:
                continue
            yield from {name if name in known else f"{name}.__init__" for name in wanted} & known

    def functions(self) -> list[int]:
        """The lines of code of each function, those of the functions inside included."""
        spans = [slice(node.lineno - 1, node.end_lineno) for node in self.nodes if isinstance(node, Definition)]
        return [self.kinds[span].count("code") for span in spans]

    def count(self, *kinds: str) -> int:
        """How often `WORD` stands in lines of these kinds."""
        return sum(len(WORD.findall(line)) for line, kind in zip(self.lines, self.kinds, strict=True) if kind in kinds)


def circles(modules: list[Module]) -> tuple[list[str], list[str]]:
    """Steps (folders of the first level) in a circle of any length; other folders that import each other directly."""
    folders = {module.name: short(module.folder) for module in modules}
    direct = {(folders[module.name], folders[name]) for module in modules for name in module.imports}
    pairs = [
        f"{a} ↔ {b}"
        for a, b in sorted(direct)
        if a < b and (b, a) in direct and "." not in (a, b) and not f"{b}/".startswith(f"{a}/")
    ]
    reached: dict[str, set[str]] = {step: set() for pair in direct for step in map(first, pair)}
    for a, b in direct:
        reached[first(a)] |= {first(b)} - {first(a), "."}
    for middle, further in reached.items():  # the transitive closure
        for targets in reached.values():
            targets.update(further if middle in targets else ())
    rings = {frozenset(b for b in targets if a in reached[b]) for a, targets in reached.items() if a in targets}
    return sorted(" ↔ ".join(sorted(ring)) for ring in rings), pairs


def ring(modules: list[Module]) -> str:
    """One circle of modules that import each other, for types or within functions too; "" without one.

    Packages are left out: their names are imported from modules, and by them.
    """
    graph = {module.name: module.imports for module in modules if not module.name.endswith("__init__")}
    try:
        TopologicalSorter({name: imports & graph.keys() for name, imports in graph.items()}).prepare()
    except CycleError as error:
        return " → ".join(name.removeprefix(f"{PACKAGE}.") for name in reversed(error.args[1]))
    return ""


def short(folder: str) -> str:
    """A folder's name below the package."""
    return folder.removeprefix(PACKAGE).lstrip(".").replace(".", "/") or "."


def first(folder: str) -> str:
    """The folder of the first level in which this one is."""
    return folder.partition("/")[0]


def names_of(node: ast.ClassDef) -> set[str]:
    """The methods and attributes of a class, without magic ones; attributes also where methods assign them."""
    found = {one.name for one in node.body if isinstance(one, Definition)}
    for one in node.body:
        targets = one.targets if isinstance(one, ast.Assign) else [one.target] if isinstance(one, ast.AnnAssign) else []
        found |= {target.id for target in targets if isinstance(target, ast.Name)}
    for inner in ast.walk(node):
        if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store) and ast.unparse(inner.value) == "self":
            found.add(inner.attr)
    return {name for name in found if not name.startswith("__")}


def chain(name: str, classes: dict[str, ast.ClassDef]) -> tuple[int, set[str]]:
    """The longest way from a class up to its roots within the package, itself included, and all classes on any way."""
    bases = [base.value if isinstance(base, ast.Subscript) else base for base in classes[name].bases]
    names = [base.id if isinstance(base, ast.Name) else getattr(base, "attr", "") for base in bases]
    above = [chain(base, classes) for base in names if base in classes]
    return 1 + max((depth for depth, _ in above), default=0), {name}.union(*(found for _, found in above))


def measure(commit: str) -> dict[str, str]:
    """Row → cell, of one column of the table."""
    texts = sources(commit)
    modules = [Module(name, source, texts) for name, source in texts.items()]
    sizes = [len(module.lines) for module in modules]
    kinds = Counter(kind for module in modules for kind in module.kinds)
    importers = Counter(name for module in modules for name in module.imports)
    single = [m for m in modules if importers[m.name] == 1 and not m.name.endswith("__init__")]
    steps, pairs = circles(modules)
    word, documented = Counter[str](), 0
    for module in modules:
        word[first(short(module.folder))] += module.count("code", "imports")
        documented += module.count("docstrings", "comments")
    result: dict[str, object] = {
        "lines": sum(sizes),
        **{f"– {kind}": kinds[kind] for kind in KINDS},
        "files": len(sizes),
        f"– under {SMALL} lines": sum(size < SMALL for size in sizes),
        f"– over {LARGE} lines": sum(size > LARGE for size in sizes),
        f"functions over {LONG} lines": sum(length > LONG for module in modules for length in module.functions()),
        "modules with one importer": len(single),
        f"– of these under {SMALL} lines": sum(len(module.lines) < SMALL for module in single),
        "modules in a circle of imports": ring(modules) or "none",
        "steps in a circle of imports": "; ".join(steps) or "none",
        "folders that import each other": "; ".join(pairs) or "none",
        f"`{WORD.pattern}` in code": word.total(),
        **{f"– in {folder}": count for folder, count in sorted(word.items()) if count},
        f"`{WORD.pattern}` in docstrings and comments": documented,
    }
    classes = {node.name: node for module in modules for node in module.nodes if isinstance(node, ast.ClassDef)}
    for name in CLASSES:
        if name in classes:
            depth, found = chain(name, classes)
            names = set().union(*(names_of(classes[one]) for one in found))
            result |= {
                f"`{name}`: classes on top of each other": depth,
                f"`{name}`: classes in all": len(found),
                f"`{name}`: methods and attributes": len(names),
            }
    return {row: str(cell) for row, cell in result.items()}


def main(commits: list[str]) -> None:
    """Print the table."""
    columns = {commit: measure(commit) for commit in commits or ["HEAD", WORKING_TREE]}
    rows = list(dict.fromkeys(row for column in columns.values() for row in column))
    print("| |" + "".join(f" {'working tree' if commit == WORKING_TREE else commit} |" for commit in columns))
    print("|---|" + "---:|" * len(columns))
    for row in rows:
        print(f"| {row} |" + "".join(f" {column.get(row, '')} |" for column in columns.values()))


if __name__ == "__main__":
    main(sys.argv[1:])
