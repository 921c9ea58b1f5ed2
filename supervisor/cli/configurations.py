"""Which keys are not at their default and who set them, for people: of this configuration, and of each supervisor."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from supervisor.cli.printing import print_table
from supervisor.client.shown import plain
from supervisor.config.provenance import SetKey

Document = Mapping[str, Any]


def print_set_keys(keys: Sequence[SetKey]) -> None:
    """Show each key with its value and where that is from: the file, a variable or a flag by its name."""
    rows = [
        [each.key, _shown(each.value), " ".join(filter(None, (each.origin.kind, each.origin.name)))] for each in keys
    ]
    print_table(("key", "value", "from"), rows)


def print_configurations(supervisors: Sequence[Document]) -> None:
    """Show in short what is set at each supervisor; `--json` has it in full."""
    rows = [[each.get("_id"), _in_short(each)] for each in supervisors if each.get("config")]
    if rows:
        print_table(("id", "not at its default"), rows)
        click.echo()


def _in_short(supervisor: Document) -> str:
    """Return the keys by where they are from, as heartbeats say it; they may say anything."""
    told = supervisor["config"]
    keys = [each for each in (told if isinstance(told, list) else ()) if isinstance(each, Mapping)]
    sources = dict.fromkeys(str(each.get("from")) for each in keys)
    parts = {
        source: " ".join(
            f"{each.get('key')}={_shown(each.get('value'))}" for each in keys if str(each.get("from")) == source
        )
        for source in sources
    }
    return "; ".join(f"{source}: {part}" for source, part in parts.items())


def _shown(value: Any) -> str:
    return json.dumps(plain(value), ensure_ascii=False)
