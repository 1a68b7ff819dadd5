"""abi.py sees every way in which the C interface can break, and tells additions from breaks."""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import abi  # noqa: E402

HEADER = """
#include <stddef.h>
#include <stdint.h>
#define TY_ABI_MAJOR 1
#define TY_ABI_MINOR 4
#define TY_API __attribute__((visibility("default")))
#define TY_POINT_INIT {sizeof(ty_point), 0, 0}
enum { TY_RED = 0, TY_GREEN = 1 };
typedef int32_t ty_color;
typedef struct ty_plan ty_plan;  // a comment; with punctuation { }
typedef struct ty_point {
  size_t struct_size;
  int32_t x;
  ty_color color;
} ty_point;
typedef void (*ty_function)(void *context, const ty_point *point);
static inline int32_t ty_sum(const ty_point *point) { if (point == NULL) { return 0; } return point->x + point->color; }
TY_API int32_t ty_draw(ty_plan *plan, const ty_point *point,
                       int32_t num_points);
TY_API void ty_on_draw(ty_function function, void *context);
"""


class Abi(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.unchanged = self.describe()

    def describe(self, *changes):
        text = HEADER
        for old, new in changes:
            self.assertIn(old, text)
            text = text.replace(old, new)
        header = self.folder / "tokenyard.h"
        header.write_text(text)
        return abi.describe_header(header, "cc")

    def judge(self, *changes):
        errors, to_store = abi.judge(self.unchanged, self.describe(*changes))
        return "\n".join(errors), to_store

    def expect_broken(self, text, *changes):
        # Neither a higher minor version nor an addition beside it excuses a break.
        for more in ([], [("MINOR 4", "MINOR 5")]):
            errors, _ = self.judge(*changes, *more)
            self.assertIn("incompatible: ", errors)
            self.assertIn(text, errors)
            self.assertIn("raise TY_ABI_MAJOR", errors)
        errors, to_store = self.judge(*changes, ("MAJOR 1", "MAJOR 2"))
        self.assertEqual((errors, to_store), ("", True))

    def expect_addition(self, text, *changes):
        errors, _ = self.judge(*changes)
        self.assertIn(f"added: {text}", errors)
        self.assertIn("raise TY_ABI_MINOR", errors)
        self.assertNotIn("incompatible", errors)
        errors, to_store = self.judge(*changes, ("MINOR 4", "MINOR 5"))
        self.assertEqual((errors, to_store), ("", True))

    def test_describes_what_programs_take_for_granted(self):
        described = self.describe()
        self.assertEqual(described["abi"], [1, 4])
        self.assertEqual(described["constants"], {"TY_RED": 0, "TY_GREEN": 1})
        self.assertEqual(
            described["types"],
            {"ty_color": "int32_t", "ty_plan": "opaque", "ty_function": "void (*)(void*, const ty_point*)"},
        )
        self.assertEqual(
            described["functions"],
            {"ty_draw": "int32_t(ty_plan*, const ty_point*, int32_t)", "ty_on_draw": "void(ty_function, void*)"},
        )
        self.assertEqual(described["structs"]["ty_point"]["bytes"], 16)
        self.assertEqual(described["structs"]["ty_point"]["fields"][2]["offset"], 12)

    def test_the_same_is_fine_whatever_the_comments_and_names_of_parameters(self):
        self.assertEqual(self.judge(), ("", False))
        self.assertEqual(self.judge(("// a comment", "// another"), ("num_points", "how_many")), ("", False))

    def test_what_goes_breaks(self):
        self.expect_broken("function ty_on_draw is gone", ("TY_API void ty_on_draw(ty_function function, void *context);", ""))
        self.expect_broken("constant TY_GREEN is gone", (", TY_GREEN = 1", ""))
        without_color = [("  ty_color color;\n", "  "), ("int32_t x;", "int64_t x;"), (" + point->color", "")]
        self.expect_broken("lost its field", *without_color)

    def test_what_changes_breaks(self):
        self.expect_broken("constant TY_GREEN was '1' and is '2'", ("TY_GREEN = 1", "TY_GREEN = 2"))
        self.expect_broken("function ty_draw was", ("int32_t num_points", "int64_t num_points"))
        self.expect_broken("function ty_draw was", ("const ty_point *point,\n", "ty_point *point,\n"))
        self.expect_broken("function ty_on_draw was", ("void ty_on_draw", "int32_t ty_on_draw"))
        self.expect_broken("type ty_color was 'int32_t' and is 'uint32_t'", ("int32_t ty_color", "uint32_t ty_color"))
        self.expect_broken("type ty_function was", ("(void *context, const", "(const"))
        self.expect_broken("struct ty_point had the field", ("int32_t x;", "float x;"))
        self.expect_broken("struct ty_point had the field", ("int32_t x;\n  ty_color color;", "ty_color color;\n  int32_t x;"))
        self.expect_broken("struct ty_point had the field", ("int32_t x;", "int64_t before;\n  int32_t x;"))

    def test_what_comes_behind_is_an_addition(self):
        self.expect_addition("constant TY_BLUE", ("TY_GREEN = 1", "TY_GREEN = 1, TY_BLUE = 2"))
        self.expect_addition("function ty_erase", ("TY_API void", "TY_API void ty_erase(ty_plan *plan);\nTY_API void"))
        self.expect_addition("struct ty_point: field 'weight'", ("ty_color color;", "ty_color color;\n  int64_t weight;"))
        self.expect_addition("type ty_page", ("typedef int32_t", "typedef struct ty_page ty_page;\ntypedef int32_t"))

    def test_versions_do_not_go_back(self):
        errors, _ = self.judge(("MINOR 4", "MINOR 3"))
        self.assertIn("cannot go back", errors)
        errors, _ = self.judge(("MAJOR 1", "MAJOR 0"))
        self.assertIn("cannot go back", errors)

    def test_structs_have_no_gaps_and_start_with_their_size(self):
        self.assertIn("gap of 4 bytes at its end", self.judge(("ty_color color;", "ty_color color;\n  int32_t more;"))[0])
        inside = ("ty_color color;", "int64_t more;\n  ty_color color;\n  int32_t both;")
        self.assertIn("gap before 'more'", self.judge(inside)[0])
        self.assertIn("does not start with 'size_t struct_size'", self.judge(("size_t struct_size", "size_t bytes"))[0])

    def test_the_library_must_export_what_is_declared(self):
        described = self.describe()
        symbols = {"ty_draw": "TOKENYARD_1", "ty_on_draw": "TOKENYARD_1"}
        whole = {**described, "soname": "libtokenyard.so.1", "symbols": symbols}
        self.assertEqual(abi.judge(whole, whole), ([], False))
        for changed, text in (
            ({"symbols": {"ty_draw": "TOKENYARD_1"}}, "ty_on_draw is declared, but the library does not export it"),
            ({"symbols": {**symbols, "ty_new": "TOKENYARD_1"}}, "ty_new is exported, but the header does not declare it"),
            ({"symbols": {**symbols, "ty_draw": "TOKENYARD_2"}}, "symbol ty_draw was 'TOKENYARD_1' and is 'TOKENYARD_2'"),
            ({"soname": "libtokenyard.so.2"}, "the SONAME is libtokenyard.so.2"),
        ):
            self.assertIn(text, "\n".join(abi.judge(whole, {**whole, **changed})[0]))

    def test_a_declaration_of_an_unknown_kind_is_an_error(self):
        two_at_once = "typedef struct s { int a, b; } s;"
        for strange in ("union u { int a; };", "extern int ty_global;", "int ty_forgotten(void);", two_at_once):
            with self.assertRaises(abi.Unreadable):
                self.describe(("TY_API void", f"{strange}\nTY_API void"))

    def test_update_refuses_what_check_refuses(self):
        stored = self.folder / "abi.json"
        before = self.describe()
        self.assertEqual(abi.update(stored, before), [])
        self.assertEqual(abi.check(stored, before), [])
        self.assertTrue(abi.update(stored, self.describe(("TY_GREEN = 1", "TY_GREEN = 2"))))
        self.assertEqual(json.loads(stored.read_text()), before)
        grown = self.describe(("TY_GREEN = 1", "TY_GREEN = 1, TY_BLUE = 2"), ("MINOR 4", "MINOR 5"))
        self.assertIn("run ./dev abi", "\n".join(abi.check(stored, grown)))
        self.assertEqual(abi.update(stored, grown), [])
        self.assertEqual(abi.check(stored, grown), [])

    def test_functions_that_nobody_calls_are_named(self):
        library, program = self.folder / "library.so", self.folder / "program"
        (self.folder / "library.c").write_text("void ty_used(void) {}\nvoid ty_unused(void) {}\n")
        (self.folder / "program.c").write_text("void ty_used(void);\nint main(void) { ty_used(); return 0; }\n")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, self.folder / "library.c"], check=True)
        subprocess.run(["cc", "-o", program, self.folder / "program.c", library], check=True)
        self.assertEqual(abi.find_unused(library, [program]), ["ty_unused is called by no test and no example"])


if __name__ == "__main__":
    unittest.main()
