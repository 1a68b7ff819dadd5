"""The C++ in README.md stands word for word in a program of examples/, which the tests compile and run."""

import re
import textwrap
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAMS = sorted((ROOT / "examples").glob("*.cpp"))


def words(code):
    return " ".join(textwrap.dedent(code).split())


class ReadmeExamples(unittest.TestCase):
    def test_every_block_is_part_of_a_program(self):
        blocks = re.findall(r"^```cpp\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
        self.assertGreater(len(blocks), 0)
        programs = {path.name: words(path.read_text()) for path in PROGRAMS}
        for block in blocks:
            # An ellipsis stands for lines that are left out.
            for part in block.split("// ...\n"):
                found = [name for name, program in programs.items() if words(part) in program]
                self.assertTrue(found, f"no program of examples/ contains\n{part}")


if __name__ == "__main__":
    unittest.main()
