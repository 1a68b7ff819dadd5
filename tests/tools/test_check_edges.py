"""check_edges.py accepts the tree as it is and names every kind of trespass."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = ROOT / "tools" / "check_edges.py"

EDGES = """
# Comments and empty lines are skipped.
base:
layout: base
kernels/host: layout base   # a folder within a folder
engine: kernels/host base
"""


class CheckEdges(unittest.TestCase):
    def setUp(self):
        self.tree = tempfile.TemporaryDirectory()
        self.addCleanup(self.tree.cleanup)
        self.write("edges.txt", EDGES)
        self.write("base/error.cpp", "")
        self.write("layout/place.hpp", '#include <vector>\n#include "base/error.hpp"\n#include "tokenyard/plan.hpp"\n')
        self.write("kernels/host/push.cpp", '#include "kernels/host/push.hpp"\n#include "layout/place.hpp"\n')
        self.write("engine/engine.cpp", '  #  include "kernels/host/push.hpp"\n')

    def write(self, name, text):
        path = Path(self.tree.name) / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def check(self, root=None):
        command = [sys.executable, "-B", PROGRAM, root or self.tree.name]
        return subprocess.run(command, capture_output=True, text=True, timeout=30)

    def test_this_repository_passes(self):
        result = self.check(ROOT)
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_allowed_edges_pass_in_silence(self):
        result = self.check()
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "", ""))

    def test_forbidden_edge_is_named_with_file_line_and_allowed_folders(self):
        self.write("layout/place.hpp", '#include <vector>\n#include "engine/engine.hpp"\n')
        result = self.check()
        self.assertEqual(result.returncode, 1)
        self.assertIn("src/layout/place.hpp:2: layout -> engine", result.stderr)
        self.assertIn("layout may include: base", result.stderr)

    def test_include_beside_the_file_counts_as_its_own_folder(self):
        self.write("layout/other.cpp", '#include "place.hpp"\n')
        self.assertEqual(self.check().returncode, 0)

    def test_way_around_by_dots_is_a_forbidden_edge(self):
        self.write("engine/engine.hpp", "")
        self.write("layout/place.hpp", '#include "../engine/engine.hpp"\n')
        self.assertIn("layout -> engine", self.check().stderr)

    def test_sibling_within_a_parent_folder_is_another_folder(self):
        self.write("edges.txt", EDGES + "kernels/cuda: layout base\n")
        self.write("kernels/cuda/push.cu", '#include "kernels/host/push.hpp"\n')
        self.assertIn("kernels/cuda -> kernels/host", self.check().stderr)

    def test_folder_without_a_line_is_an_error(self):
        self.write("helpers/misc.cpp", "")
        result = self.check()
        self.assertEqual(result.returncode, 1)
        self.assertIn("src/helpers/misc.cpp", result.stderr)

    def test_header_of_another_library_is_no_edge(self):
        self.write("layout/place.hpp", '#include "hwy/highway.h"\n')
        self.assertEqual(self.check().returncode, 0)

    def test_include_of_an_unlisted_folder_is_an_error(self):
        self.write("helpers/misc.hpp", "")
        self.write("layout/place.hpp", '#include "helpers/misc.hpp"\n')
        self.assertIn("src/layout/place.hpp:1", self.check().stderr)

    def test_listed_folder_without_files_is_a_warning(self):
        self.write("edges.txt", EDGES + "decode: base\n")
        result = self.check()
        self.assertEqual(result.returncode, 0)
        self.assertIn("'decode' has no files", result.stderr)

    def test_circle_is_an_error(self):
        self.write("edges.txt", EDGES.replace("base:", "base: engine"))
        result = self.check()
        self.assertEqual(result.returncode, 1)
        self.assertIn("circle", result.stderr)

    def test_malformed_and_missing_lists_are_errors(self):
        for text in ("base\n", "base:\nbase:\n", "base: nowhere\n"):
            self.write("edges.txt", text)
            self.assertEqual(self.check().returncode, 2, text)
        (Path(self.tree.name) / "src" / "edges.txt").unlink()
        self.assertEqual(self.check().returncode, 2)


if __name__ == "__main__":
    unittest.main()
