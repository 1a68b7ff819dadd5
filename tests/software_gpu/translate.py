"""Turns a CUDA source into C++ that runs on the software GPU: translate.py SOURCE TARGET.

Only what no macro can express is rewritten: launches, dynamic shared memory, inline PTX, and __noinline__, a word that the
standard library uses itself.
"""

import re
import sys
from pathlib import Path

LAUNCH = re.compile(r"([\w:]+(?:<[^<>;{}]*>)?)\s*<<<(.*?)>>>\(", re.DOTALL)
DYNAMIC_SHARED = re.compile(r"extern __shared__ (?:__align__\(\d+\) )?([\w:]+) (\w+)\[\];")
FUNCTION = re.compile(
    r"(?P<head>(?:template <int (?P<parameter>\w+)>\n)?"
    r"__device__ (?:inline )?[\w:]+\*? (?P<name>\w+)\((?P<arguments>[^)]*)\)) {"
)
COMMENT = re.compile(r"//.*")
LEFT_OVER = re.compile(r"\basm\b|<<<|\bvolatile\b|extern __shared__")


def end_of_block(text: str, begin: int) -> int:
    """The position behind the brace that closes the one before `begin`."""
    depth = 1
    while depth > 0:
        depth += {"{": 1, "}": -1}.get(text[begin], 0)
        begin += 1
    return begin


def replace_ptx(text: str) -> str:
    """Functions with inline PTX call what software_gpu/ptx.hpp has in their place."""
    result = []
    end = 0
    for match in FUNCTION.finditer(text):
        body_end = end_of_block(text, match.end())
        if match.start() < end or not re.search(r"\basm\b", text[match.end() : body_end]):
            continue
        names = [argument.split()[-1].lstrip("*") for argument in match["arguments"].split(",") if argument.strip()]
        template = f"<{match['parameter']}>" if match["parameter"] else ""
        result.append(text[end : match.start()])
        result.append(f"{match['head']} {{ return ::software_gpu::ptx::{match['name']}{template}({', '.join(names)}); }}")
        end = body_end
    return "".join([*result, text[end:]])


def translate(text: str) -> str:
    text = replace_ptx(text)
    text = DYNAMIC_SHARED.sub(r"auto* const \2 = reinterpret_cast<\1*>(::software_gpu::dynamic_shared());", text)
    text = LAUNCH.sub(r"::software_gpu::Launch(\2).of(\1)(", text)
    text = text.replace("__noinline__", "__attribute__((noinline))")
    if left_over := LEFT_OVER.search(COMMENT.sub("", text)):
        raise ValueError(f"no rule here knows this use of '{left_over[0]}'")
    return text


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(f'#line 1 "{source}"\n{translate(source.read_text())}')
