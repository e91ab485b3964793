import json
from pathlib import Path

from cli.supervisor.log_tail import telling_lines


def test_lines_that_speak_of_an_error_are_found_among_others(tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    log.write_text("starting\nFatal error: bad magic\nbye\n")
    assert telling_lines(log) == "Fatal error: bad magic"


def test_without_an_error_the_last_lines_are_shown(tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    log.write_text("".join(f"line {number}\n" for number in range(20)))
    assert telling_lines(log, most=2) == "line 18\nline 19"


def test_a_json_line_reads_as_a_sentence(tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    entry = {"event": "engine cannot start", "reason": "no such model", "level": "error", "logger": "x"}
    log.write_text(json.dumps(entry) + "\n")
    assert telling_lines(log) == "error: engine cannot start: no such model"


def test_a_missing_or_empty_log_is_said_to_be_so(tmp_path: Path) -> None:
    assert telling_lines(tmp_path / "none.log") == "It wrote nothing to its log."
