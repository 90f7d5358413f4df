"""What every tool must do alike, as a mix-in; one subclass per tool in tests/cli."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.conftest import command, complaint, make_record, run, tree, write_place
from wsseg.errors import ExitStatus


class ToolContract:
    """Any tool. ``tool``: its name; ``arguments``: words that follow the input; ``kinds``: what
    its input holds; ``extra``: words that name a second place, made from ``{dir}``."""

    tool: str
    arguments: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ("label",)
    input_first = True

    def line(self, place: str, *more: str) -> list[str]:
        return [*self.tool.split(), place, *self.arguments, *more]

    def output(self, folder: Path, name: str = "out") -> list[str]:
        """The words that give the tool an output in ``folder``; none for a text tool."""
        return []

    @pytest.fixture
    def source(self, tmp_path: Path) -> str:
        return write_place(tmp_path / "source.tar",
                           [make_record(i, *self.kinds) for i in range(6)], kinds=self.kinds)

    def test_help_shows_examples(self):
        text = run([*self.tool.split(), "--help"]).stdout.decode()
        assert "Usage: " + self.tool.split()[0] in text
        assert "Examples:" in text

    def test_version_is_told(self):
        assert run([self.tool.split()[0], "--version"]).stdout.decode().startswith(
            self.tool.split()[0])

    def test_an_unknown_option_is_one_line_and_a_usage_error(self, source):
        done = run(self.line(source, "--no-such-option"), code=ExitStatus.USAGE)
        assert "--no-such-option" in complaint(done)

    def test_a_missing_input_is_a_usage_error(self, tmp_path):
        done = run(self.line(str(tmp_path / "none"), *self.output(tmp_path)),
                   code=ExitStatus.USAGE)
        assert "no such file" in complaint(done)

    def test_an_empty_stream_is_incomplete(self, tmp_path):
        done = run(self.line("-", *self.output(tmp_path)), stdin=b"", code=ExitStatus.INCOMPLETE)
        assert "empty" in complaint(done)

    def test_a_cut_stream_is_incomplete(self, source, tmp_path):
        data = Path(source).read_bytes()
        for cut in (len(data) // 2 // 512 * 512, len(data) // 2 + 100, len(data) - 512):
            done = run(self.line("-", *self.output(tmp_path, f"out{cut}")), stdin=data[:cut],
                       code=ExitStatus.INCOMPLETE)
            assert "incomplete" in complaint(done)

    def test_noise_is_no_stream(self, tmp_path):
        done = run(self.line("-", *self.output(tmp_path)), stdin=b"\x07noise" * 400,
                   code=ExitStatus.FAILED)
        assert "not a wsseg stream" in complaint(done)

    def test_a_terminal_as_input_is_refused(self, tmp_path):
        ours, theirs = pty.openpty()
        try:
            done = run(self.line("-", *self.output(tmp_path)), stdin=theirs,
                       code=ExitStatus.USAGE)
        finally:
            os.close(ours)
            os.close(theirs)
        assert "no input" in complaint(done)

    def broken(self, folder: Path) -> str:
        """A place whose third record cannot be read."""
        place = write_place(folder / "broken", [make_record(i, *self.kinds) for i in range(6)],
                            kinds=self.kinds)
        victim = next(p for p in sorted((folder / "broken").iterdir())
                      if p.name.startswith("img002") and "image" not in p.name)
        victim.write_bytes(victim.read_bytes()[:-20])
        return place

    def test_a_bad_record_ends_the_run_with_its_name(self, tmp_path):
        done = run(self.line(self.broken(tmp_path), *self.output(tmp_path)),
                   code=ExitStatus.FAILED)
        assert "img002" in complaint(done)

    def test_keep_going_leaves_a_bad_record_out(self, tmp_path):
        done = run(self.line(self.broken(tmp_path), "--keep-going", *self.output(tmp_path)),
                   code=ExitStatus.SOME_FAILED)
        lines = done.stderr.decode().splitlines()  # a tool may note more
        assert any("img002" in line for line in lines)
        assert any("1 record" in line for line in lines) and len(lines) <= 3


class TextContract(ToolContract):
    """A tool that writes text."""

    def test_a_full_disk_is_reported(self, source):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([*command(self.tool.split()[0]), *self.tool.split()[1:], source,
                                   *self.arguments], stdout=full, stderr=subprocess.PIPE)
        assert done.returncode == ExitStatus.FAILED
        assert b"No space left" in done.stderr

    def test_jobs_do_not_change_the_result(self, source):
        assert run(self.line(source, "-j1")).stdout == run(self.line(source, "-j4")).stdout

    def test_a_reader_that_leaves_is_no_error(self, source):
        process = subprocess.Popen([*command(self.tool.split()[0]), *self.tool.split()[1:],
                                    source, *self.arguments], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        process.stdout.close()
        assert process.wait(60) == ExitStatus.READER_GONE
        assert process.stderr.read() == b""


class RecordContract(ToolContract):
    """A tool that writes records."""

    def output(self, folder: Path, name: str = "out") -> list[str]:
        return ["-o", str(folder / name)]

    def test_jobs_do_not_change_a_byte(self, source, tmp_path):
        one, four = (run(self.line(source, f"-j{n}")).stdout for n in (1, 4))
        assert one == four
        assert len(one) > 2000
        for n in (1, 4):
            run(self.line(source, f"-j{n}", "-o", str(tmp_path / f"j{n}")))
            run(self.line(source, f"-j{n}", "-o", str(tmp_path / f"j{n}.h5")))
        assert tree(tmp_path / "j1") == tree(tmp_path / "j4")
        assert (tmp_path / "j1.h5").read_bytes() == (tmp_path / "j4.h5").read_bytes()

    def test_records_are_not_written_to_a_terminal(self, source):
        ours, theirs = pty.openpty()
        try:
            done = subprocess.run([*command(self.tool), source, *self.arguments], stdout=theirs,
                                  stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        finally:
            os.close(ours)
            os.close(theirs)
        assert done.returncode == ExitStatus.USAGE
        assert "-o" in complaint(done)

    def test_a_closed_output_is_reported(self, source):
        line = " ".join([*command(self.tool), source, *self.arguments, ">&-"])
        done = subprocess.run(["bash", "-c", line], capture_output=True)
        assert done.returncode in (ExitStatus.FAILED, ExitStatus.USAGE)
        assert "standard output is closed" in complaint(done)

    def test_a_reader_that_leaves_is_no_error(self, tmp_path):
        many = write_place(tmp_path / "many.tar",
                           [make_record(i, *self.kinds) for i in range(60)], kinds=self.kinds)
        line = f"{' '.join(command(self.tool))} {many} {' '.join(self.arguments)} | head -c 100 " \
               "> /dev/null; echo ${PIPESTATUS[0]}"
        done = subprocess.run(["bash", "-c", line], capture_output=True)
        assert done.stdout.strip() == b"141"
        assert done.stderr == b""

    def test_an_existing_output_is_left_alone(self, source, tmp_path):
        for name in ("out", "out.h5", "out.tar"):
            run(self.line(source, "-o", str(tmp_path / name)))
            before = tree(tmp_path)
            done = run(self.line(source, "-o", str(tmp_path / name)), code=ExitStatus.USAGE)
            assert "--overwrite or --resume" in complaint(done)
            assert tree(tmp_path) == before
            run(self.line(source, "-o", str(tmp_path / name), "--overwrite"))
            run(self.line(source, "-o", str(tmp_path / name), "--resume"))
            assert tree(tmp_path) == before

    def test_shards_add_up(self, source, tmp_path):
        run(self.line(source, "-o", str(tmp_path / "whole")))
        whole = {n: d for n, d in tree(tmp_path / "whole").items() if not n.startswith("__")}
        parts: dict[str, bytes] = {}
        for i in (1, 2, 3):
            run(self.line(source, "--shard", f"{i}/3", "-o", str(tmp_path / f"part{i}")))
            part = {n: d for n, d in tree(tmp_path / f"part{i}").items()
                    if not n.startswith("__")}
            assert not parts.keys() & part.keys()
            parts |= part
        assert parts == whole

    def test_keys_choose_records(self, source, tmp_path):
        (tmp_path / "keys.txt").write_text("img004\r\nimg001\n")
        run(self.line(source, "--keys", str(tmp_path / "keys.txt"), "-o", str(tmp_path / "some")))
        names = {n.split(".")[0] for n in tree(tmp_path / "some") if not n.startswith("__")}
        assert names == {"img001", "img004"}

    def test_a_listed_key_that_is_missing_is_named(self, source, tmp_path):
        (tmp_path / "keys.txt").write_text("img004\nimg999\n")
        done = run(self.line(source, "--keys", str(tmp_path / "keys.txt"), "-o",
                             str(tmp_path / "some")), code=ExitStatus.USAGE)
        assert "img999" in complaint(done)

    def test_the_output_cannot_be_the_input(self, source, tmp_path):
        done = run(self.line(source, "-o", source, "--overwrite"), code=ExitStatus.USAGE)
        assert "also an input" in complaint(done)

    def test_a_linked_output_is_refused(self, source, tmp_path):
        (tmp_path / "victim").mkdir()
        (tmp_path / "victim.h5").write_bytes(b"precious")
        for name, victim in (("link", "victim"), ("link.h5", "victim.h5")):
            (tmp_path / name).symlink_to(tmp_path / victim)
            done = run(self.line(source, "-o", str(tmp_path / name), "--overwrite"),
                       code=ExitStatus.UNSAFE)
            assert "symbolic link" in complaint(done)
        assert list((tmp_path / "victim").iterdir()) == []
        assert (tmp_path / "victim.h5").read_bytes() == b"precious"
