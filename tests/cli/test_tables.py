"""Tables show what they are given."""

import pytest

from cli.tables import make_table, print_table


def test_names_with_colons_and_brackets_stay_as_they_are(capsys: pytest.CaptureFixture[str]):
    table = make_table("model", "note")
    table.add_row("ft:smollm2-135m-instruct:acme:ship:1", "[red]")
    print_table(table)

    printed = capsys.readouterr().out
    assert "ft:smollm2-135m-instruct:acme:ship:1" in printed
    assert "[red]" in printed
