"""The C++ and C in README.md stands word for word in a program of examples/, which the tests compile and run."""

import re
import textwrap
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAMS = sorted((ROOT / "examples").glob("*.c*"))


def words(code):
    return " ".join(textwrap.dedent(code).split())


class ReadmeExamples(unittest.TestCase):
    def test_every_block_is_part_of_a_program(self):
        text = (ROOT / "README.md").read_text()
        blocks = [re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL) for language in ("cpp", "c")]
        for of_a_language in blocks:
            self.assertGreater(len(of_a_language), 0)
        programs = {path.name: words(path.read_text()) for path in PROGRAMS}
        for block in sum(blocks, []):
            # An ellipsis stands for lines that are left out.
            for part in block.split("// ...\n"):
                found = [name for name, program in programs.items() if words(part) in program]
                self.assertTrue(found, f"no program of examples/ contains\n{part}")


if __name__ == "__main__":
    unittest.main()
