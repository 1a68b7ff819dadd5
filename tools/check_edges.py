#!/usr/bin/env python3
"""Checks that the folders of src/ include each other only as src/edges.txt allows.

usage: check_edges.py [ROOT]    ROOT is the repository, by default the one that this file is in

A folder may include itself, the public headers (tokenyard/...) and the folders that its line in edges.txt names. Exit status 0
when that holds, 1 when it does not, 2 when edges.txt itself is malformed or missing.
"""

import re
import sys
from pathlib import Path

SUFFIXES = {".cpp", ".hpp", ".h", ".cu", ".cuh", ".inc"}
INCLUDE = re.compile(r'\s*#\s*include\s*"([^"]+)"')


class MalformedEdges(Exception):
    pass


def read_edges(path):
    """Returns {folder: set of the folders that it may include}."""
    edges = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        line = line.split("#", 1)[0].strip()
        if not line:
            continue
        folder, colon, allowed = line.partition(":")
        folder = folder.strip()
        if not colon or not folder or folder in edges:
            raise MalformedEdges(f"{path}:{number}: expected one 'folder: folder ...' line per folder, found '{line}'")
        edges[folder] = set(allowed.split())
    for folder, allowed in edges.items():
        for name in sorted(allowed - edges.keys()):
            raise MalformedEdges(f"{path}: '{folder}' may include '{name}', which has no line of its own")
    return edges


def folder_of(path, edges):
    """The longest listed folder that holds `path` (relative to src/), or None."""
    for parent in Path(path).parents:
        if parent.as_posix() in edges:
            return parent.as_posix()
    return None


def find_cycle(edges):
    """A list of folders that depend on each other in a circle, or None."""
    state = {}

    def visit(folder, trail):
        state[folder] = "open"
        for target in sorted(edges[folder] - {folder}):
            if state.get(target) == "open":
                return trail[trail.index(target) :] + [target]
            if target not in state:
                cycle = visit(target, trail + [target])
                if cycle:
                    return cycle
        state[folder] = "done"
        return None

    for folder in edges:
        if folder not in state:
            cycle = visit(folder, [folder])
            if cycle:
                return cycle
    return None


def target_of(included, includer, source_dir):
    """The included file relative to src/, found as the compiler does: beside the includer, then from src/."""
    beside = includer.parent / included
    if beside.is_file() and source_dir.resolve() in beside.resolve().parents:
        return beside.resolve().relative_to(source_dir.resolve()).as_posix()
    return included


def check(root):
    """Returns (errors, warnings): lists of text."""
    source_dir = root / "src"
    edges_file = source_dir / "edges.txt"
    edges = read_edges(edges_file)
    errors, warnings = [], []

    cycle = find_cycle(edges)
    if cycle:
        errors.append(f"{edges_file.relative_to(root)}: the folders depend on each other in a circle: {' -> '.join(cycle)}")

    used = set()
    for path in sorted(source_dir.rglob("*")):
        if path.suffix not in SUFFIXES:
            continue
        name = path.relative_to(source_dir).as_posix()
        folder = folder_of(name, edges)
        if folder is None:
            errors.append(f"src/{name}: its folder has no line in src/edges.txt; add one that names what it may include")
            continue
        used.add(folder)
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            match = INCLUDE.match(line)
            if not match or match.group(1).startswith("tokenyard/"):
                continue
            included = target_of(match.group(1), path, source_dir)
            target = folder_of(included, edges)
            if target == folder or target in edges[folder]:
                continue
            if target is None and not (source_dir / included).exists():
                continue  # another library's header
            allowed = " ".join(sorted(edges[folder])) or "nothing but itself and the public headers"
            if target is None:
                reason = f'"{match.group(1)}" is in no folder that src/edges.txt lists'
            else:
                reason = f'{folder} -> {target} by "{match.group(1)}"'
            errors.append(f"src/{name}:{number}: {reason}; {folder} may include: {allowed}")

    for folder in edges:
        if folder not in used:
            warnings.append(f"src/edges.txt: '{folder}' has no files yet")
    return errors, warnings


def main():
    if len(sys.argv) > 2 or "-h" in sys.argv or "--help" in sys.argv:
        print(__doc__)
        return 0 if len(sys.argv) == 2 else 2
    root = Path(sys.argv[1]) if len(sys.argv) == 2 else Path(__file__).resolve().parent.parent
    try:
        errors, warnings = check(root)
    except (MalformedEdges, OSError) as problem:
        print(problem, file=sys.stderr)
        return 2
    for text in warnings:
        print(f"warning: {text}", file=sys.stderr)
    for text in errors:
        print(f"error: {text}", file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
