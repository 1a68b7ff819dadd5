#!/usr/bin/env python3
"""Compares the C interface, as a header declares it and a library exports it, with a stored description.

usage: abi.py check STORED HEADER LIBRARY     fails when the two differ, and says what to do
       abi.py update STORED HEADER LIBRARY    rewrites the description; refuses what docs/abi.md forbids
       abi.py unused LIBRARY PROGRAM...       lists functions that LIBRARY exports and no PROGRAM refers to

Exit status 0 when all is well, 1 when it is not, 2 when something cannot be read. The compiler is $CC, otherwise cc; readelf
and nm are those of binutils.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

EXPORT = '__attribute__((visibility("default")))'
STRUCT = re.compile(r"typedef struct (\w+) \{(.*)\} (\w+)$")
OPAQUE = re.compile(r"typedef struct (\w+) (\w+)$")
FUNCTION_TYPE = re.compile(r"typedef (.+?) ?\(\* ?(\w+)\) ?\((.*)\)$")
ALIAS = re.compile(r"typedef (\w+) (\w+)$")
ENUM = re.compile(r"enum \{(.*)\}$")
FUNCTION = re.compile(r"(.+?)(\w+) ?\((.*)\)$")
FIELD = re.compile(r"([\w* ]+?) ?(\w+)(?:\[\w+\])?$")


class Unreadable(Exception):
    pass


def run(*command):
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise Unreadable(f"{' '.join(map(str, command))} failed:\n{result.stderr}")
    return result.stdout


# --- What the header declares ---


def own_text(header, compiler):
    """The preprocessed header without what it includes."""
    text, inside = [], False
    for line in run(compiler, "-std=c99", "-E", "-x", "c", str(header)).splitlines():
        marker = re.match(r'# \d+ "(.*?)"', line)
        if marker:
            inside = os.path.exists(marker[1]) and os.path.samefile(marker[1], header)
        elif inside:
            text.append(line)
    return re.sub(r"\s+", " ", " ".join(text)).replace(" *", "*").replace("*", "* ")


def declarations(text):
    """The declarations at file level, without semicolons; bodies of inline functions are left out."""
    found, current, depth = [], "", 0
    for character in text:
        current += character
        depth += {"{": 1, "}": -1}.get(character, 0)
        inline = current.lstrip().startswith("static inline")
        if depth == 0 and (character == ";" and not inline or character == "}" and inline):
            if not inline:
                found.append(current.strip(" ;"))
            current = ""
    if current.strip():
        raise Unreadable(f"the header ends in the middle of a declaration: {current.strip()}")
    return [re.sub(r"\s+", " ", declaration).replace("* *", "**") for declaration in found if declaration]


def parameter_types(parameters):
    """Without names, which are no part of the interface."""
    return ", ".join(re.sub(r"(?<=[\w*] )\w+$|(?<=\*)\w+$", "", p.strip()).strip() for p in parameters.split(","))


def parse(header, compiler):
    parsed = {"functions": {}, "types": {}, "structs": {}, "constants": []}
    for declaration in declarations(own_text(header, compiler)):
        exported = declaration.startswith(EXPORT)
        declaration = declaration.removeprefix(EXPORT).strip()
        if match := STRUCT.match(declaration):
            fields = [FIELD.match(field.strip()) for field in match[2].split(";") if field.strip()]
            if None in fields:
                raise Unreadable(f"{header}: {match[3]} has a field of a kind that abi.py does not know: {match[2]}")
            parsed["structs"][match[3]] = [field.groups() for field in fields]
        elif match := OPAQUE.match(declaration):
            parsed["types"][match[2]] = "opaque"
        elif match := FUNCTION_TYPE.match(declaration):
            parsed["types"][match[2]] = f"{match[1].strip()} (*)({parameter_types(match[3])})"
        elif match := ALIAS.match(declaration):
            parsed["types"][match[2]] = match[1]
        elif match := ENUM.match(declaration):
            parsed["constants"] += [entry.split("=")[0].strip() for entry in match[1].split(",") if entry.strip()]
        elif exported and (match := FUNCTION.match(declaration)):
            parsed["functions"][match[2]] = f"{match[1].strip()}({parameter_types(match[3])})"
        else:
            raise Unreadable(f"{header}: this is no declaration that abi.py knows: {declaration}")
    return parsed


def describe_header(header, compiler):
    """What a program that includes the header takes for granted: a small C program tells sizes, offsets and values."""
    parsed = parse(header, compiler)
    lines = [f'#include "{Path(header).resolve()}"', "#include <stdio.h>", "int main(void) {"]
    lines += [f'  printf("constant {name} %lld\\n", (long long)({name}));' for name in parsed["constants"]]
    lines += [f'  printf("version {name} %lld\\n", (long long)({name}));' for name in ("TY_ABI_MAJOR", "TY_ABI_MINOR")]
    for struct, fields in parsed["structs"].items():
        lines.append(f'  printf("struct {struct} %zu\\n", sizeof({struct}));')
        for _, field in fields:
            place = f"offsetof({struct}, {field}), sizeof((({struct} *)0)->{field})"
            lines.append(f'  printf("field {struct}.{field} %zu %zu\\n", {place});')
    lines += ["  return 0;", "}", ""]
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "describe.c"), Path(folder, "describe")
        source.write_text("\n".join(lines))
        run(compiler, "-std=c99", "-o", str(program), str(source))
        told = [line.split() for line in run(program).splitlines()]

    values = {(kind, name): [int(number) for number in numbers] for kind, name, *numbers in told}
    structs = {}
    for struct, fields in parsed["structs"].items():
        places = [(kind, name, *values["field", f"{struct}.{name}"]) for kind, name in fields]
        structs[struct] = {
            "bytes": values["struct", struct][0],
            "fields": [{"name": n, "type": t, "offset": offset, "bytes": size} for t, n, offset, size in places],
        }
    return {
        "abi": [values["version", "TY_ABI_MAJOR"][0], values["version", "TY_ABI_MINOR"][0]],
        "constants": {name: values["constant", name][0] for name in parsed["constants"]},
        "types": parsed["types"],
        "structs": structs,
        "functions": parsed["functions"],
    }


# --- What the library exports ---


def exported_symbols(library):
    """{name: version node} of the symbols that the library defines for others."""
    symbols = {}
    for line in run("nm", "--dynamic", "--defined-only", "--with-symbol-versions", str(library)).splitlines():
        _, kind, name = line.split()
        if kind != "A":
            name, _, node = name.partition("@@")
            symbols[name] = node
    return symbols


def soname(library):
    match = re.search(r"\(SONAME\).*\[(.*)\]", run("readelf", "--dynamic", "--wide", str(library)))
    return match[1] if match else ""


def describe(header, library, compiler):
    description = describe_header(header, compiler)
    return {"soname": soname(library), **description, "symbols": exported_symbols(library)}


# --- Rules ---


def find_defects(description):
    """What no version of the interface may have, whatever is stored."""
    defects = []
    for name, struct in description["structs"].items():
        end = 0
        for field in struct["fields"]:
            if field["offset"] != end:
                defects.append(f"{name} has a gap before '{field['name']}': an older caller's gap is not zero")
            end = field["offset"] + field["bytes"]
        if end != struct["bytes"]:
            defects.append(f"{name} has a gap of {struct['bytes'] - end} bytes at its end: a later field would hide in it")
        first = struct["fields"][0]
        if (first["name"], first["type"]) != ("struct_size", "size_t"):
            defects.append(f"{name} does not start with 'size_t struct_size'")
    declared, exported = set(description["functions"]), set(description.get("symbols", description["functions"]))
    defects += [f"{name} is declared, but the library does not export it" for name in sorted(declared - exported)]
    defects += [f"{name} is exported, but the header does not declare it" for name in sorted(exported - declared)]
    node = f"TOKENYARD_{description['abi'][0]}"
    defects += [f"{s} has the version {n}, not {node}" for s, n in description.get("symbols", {}).items() if n != node]
    if "soname" in description and description["soname"] != f"libtokenyard.so.{description['abi'][0]}":
        defects.append(f"the SONAME is {description['soname']}, but TY_ABI_MAJOR is {description['abi'][0]}")
    return defects


def compare_maps(kind, stored, current):
    """What programs that know the stored entries would miss or misread, and what is new."""
    broken = [f"{kind} {name} is gone" for name in stored if name not in current]
    broken += [
        f"{kind} {name} was '{value}' and is '{current[name]}'"
        for name, value in stored.items()
        if name in current and current[name] != value
    ]
    return broken, [f"{kind} {name}" for name in current if name not in stored]


def compare_structs(stored, current):
    broken, added = compare_maps("struct", dict.fromkeys(stored), dict.fromkeys(current))
    for name in stored.keys() & current.keys():
        old, new = stored[name]["fields"], current[name]["fields"]
        for field, place in zip(old, new, strict=False):
            if field != place:
                broken.append(f"struct {name} had the field {field} and now has {place} in its place")
        broken += [f"struct {name} has lost its field {field}" for field in old[len(new) :]]
        for field in new[len(old) :]:
            if field["offset"] < stored[name]["bytes"]:
                old_bytes = stored[name]["bytes"]
                broken.append(f"struct {name}: the new field '{field['name']}' lies within the {old_bytes} old bytes")
            added.append(f"struct {name}: field '{field['name']}'")
    return broken, added


def compare(stored, current):
    """Returns (broken, added): lists of text."""
    broken, added = [], []
    for kind in ("constants", "types", "functions", "symbols"):
        more_broken, more_added = compare_maps(kind.removesuffix("s"), stored.get(kind, {}), current.get(kind, {}))
        broken += more_broken
        added += more_added if kind != "symbols" else []
    more_broken, more_added = compare_structs(stored["structs"], current["structs"])
    return broken + more_broken, added + more_added


def judge(stored, current):
    """Returns (errors, to_store): why the interface may not be as it is, and whether its description is to be rewritten."""
    errors = [f"defect: {text}" for text in find_defects(current)]
    if current["abi"][0] > stored["abi"][0]:
        return errors, True
    broken, added = compare(stored, current)
    errors += [f"incompatible: {text}" for text in broken]
    if broken:
        errors.append(
            f"programs compiled against ABI {stored['abi'][0]}.{stored['abi'][1]} would break. Keep what they use and add "
            "beside it; if that cannot be, raise TY_ABI_MAJOR, set TY_ABI_MINOR to 0 and rename the version node"
        )
    if current["abi"] < stored["abi"]:
        errors.append(f"the ABI was {stored['abi']} and is {current['abi']}: it cannot go back")
    elif added and current["abi"] == stored["abi"]:
        errors += [f"added: {text}" for text in added]
        errors.append("additions are welcome: raise TY_ABI_MINOR in include/tokenyard.h, then run ./dev abi")
    return errors, current != stored


# --- Commands ---


def check(stored_file, current):
    errors, to_store = judge(json.loads(Path(stored_file).read_text()), current)
    if to_store and not errors:
        errors.append(f"the interface has grown as it may, but {stored_file} does not say so yet: run ./dev abi and commit it")
    return errors


def update(stored_file, current):
    path = Path(stored_file)
    if path.exists():
        errors, _ = judge(json.loads(path.read_text()), current)
    else:
        errors = find_defects(current)
    if not errors:
        path.write_text(json.dumps(current, indent=1) + "\n")
    return errors


def find_unused(library, programs):
    exported = exported_symbols(library)
    for program in programs:
        for line in run("nm", "--undefined-only", program).splitlines():
            exported.pop(line.split()[-1].partition("@")[0], None)
    return [f"{name} is called by no test and no example" for name in sorted(exported)]


def main(arguments):
    compiler = os.environ.get("CC", "cc")
    try:
        if len(arguments) == 4 and arguments[0] in ("check", "update"):
            command, stored, header, library = arguments
            errors = {"check": check, "update": update}[command](stored, describe(header, library, compiler))
        elif len(arguments) >= 3 and arguments[0] == "unused":
            errors = find_unused(arguments[1], arguments[2:])
        else:
            print(__doc__)
            return 2
    except (Unreadable, OSError, ValueError) as problem:
        print(problem, file=sys.stderr)
        return 2
    for text in errors:
        print(f"error: {text}", file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
