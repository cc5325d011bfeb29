"""Slack's lengths and counts. Whatever slack_sdk or slackblocks checks is left to them; what is here, neither does."""

from slack_sdk.models.blocks import Block
from slack_sdk.models.views import View
import slackblocks
from slackblocks._surfaces import validate_surface_blocks
from slackblocks.rich_text import RichText

# https://docs.slack.dev/reference/methods/chat.update: `text` longer than this is refused with `msg_too_long`;
# chat.postMessage takes 40,000 and advises 4,000.
TEXT_CHARACTERS = 4_000
# https://docs.slack.dev/reference/block-kit/blocks
MESSAGE_BLOCKS = 50
# https://docs.slack.dev/reference/block-kit/blocks/table-block: over all cells of a message.
TABLE_CHARACTERS = 10_000
# https://docs.slack.dev/reference/block-kit/blocks/data-table-block; slackblocks admits 201, so the stricter is taken.
DATA_TABLE_ROWS = 101
# https://docs.slack.dev/reference/block-kit/blocks/markdown-block: over all such blocks of a message.
MARKDOWN_CHARACTERS = 12_000
# The doc comments of @slack/web-api's Manifest, as paths and their greatest lengths.
MANIFEST_LENGTHS = {
    "display_information": {"name": 35, "description": 140, "long_description": 4_000},
    "slash_commands": {"command": 32, "usage_hint": 1_000, "description": 2_000},
}
MANIFEST_COUNTS = {"slash_commands": 50, "shortcuts": 10}
MANIFEST_EVENTS = 100


def check_blocks(blocks, surface, at):
    """The refusals of a list of blocks, each as (path, reason). `surface` is message, modal or home."""
    if not isinstance(blocks, list):
        return [(at, "is no list")]
    refusals = []
    if surface == "message" and not 1 <= len(blocks) <= MESSAGE_BLOCKS:
        refusals.append((at, f"has {len(blocks)} blocks; 1 to {MESSAGE_BLOCKS} are allowed"))
    seen = set()
    for index, block in enumerate(blocks):
        here = f"{at}/{index}"
        refusals += [(here, why) for why in check_block(block, surface)]
        block_id = block.get("block_id") if isinstance(block, dict) else None
        if block_id is not None and block_id in seen:
            refusals.append((here, f"block_id {block_id!r} is given twice"))
        seen.add(block_id)
    return refusals + [(at, why) for why in check_totals(blocks)]


def check_block(block, surface):
    if not isinstance(block, dict) or not isinstance(block.get("type"), str):
        return ["is no block"]
    refusals = [f"{path} is empty" for path in empty_texts(block, "")]
    refusals += [f"action_id {name!r} is given twice" for name in twice(action_ids(block))]
    for reader in (by_surface, by_slack_sdk, by_slackblocks):
        try:
            reader(block, surface)
        except Exception as error:  # Each library raises what it likes at a block that it cannot read: all are refusals.
            refusals.append(f"{reader.__name__.replace('_', ' ')}: {error or type(error).__name__}")
    return refusals


def by_surface(block, surface):
    validate_surface_blocks([block], surface)


def by_slack_sdk(block, _surface):
    # slack_sdk 3.47.0 has no model of this block; slackblocks checks it below.
    if block["type"] == "data_table":
        return
    parsed = Block.parse(block)
    if parsed is None:
        raise ValueError(f"no model of a block of type {block['type']!r}")
    # validate_json looks at the block alone; to_dict validates every element inside it as well.
    parsed.validate_json()
    if has_none(parsed.to_dict()):
        raise ValueError("an element is of an unknown type")


def by_slackblocks(block, _surface):
    if block["type"] == "table":
        rows = [[slackblocks.RawText(flat(cell)) for cell in row] for row in block["rows"]]
        settings = [slackblocks.ColumnSettings(**one) for one in block.get("column_settings") or []]
        slackblocks.TableBlock(rows, settings, block.get("block_id"))
    elif block["type"] == "data_table":
        check_data_table(block)
    elif block["type"] in ("header", "markdown", "divider", "context"):
        slackblocks.Block.from_dict(block)
    elif block["type"] == "section":
        # It cannot read the element beside a section; slack_sdk has checked that one.
        slackblocks.Block.from_dict({key: value for key, value in block.items() if key != "accessory"})


def check_data_table(block):
    if len(block["rows"]) > DATA_TABLE_ROWS:
        raise ValueError(f"has {len(block['rows'])} rows, more than {DATA_TABLE_ROWS}")
    rows = [[data_cell(cell) for cell in row] for row in block["rows"]]
    given = {key: block[key] for key in ("page_size", "row_header_column_index", "block_id") if key in block}
    slackblocks.DataTableBlock(rows, block["caption"], **given)


def data_cell(cell):
    if cell["type"] == "raw_number":
        return slackblocks.RawNumber(cell["value"], cell["text"])
    if cell["type"] == "rich_text":
        return slackblocks.RichTextBlock(slackblocks.RichTextSection([RichText(flat(cell))]))
    return slackblocks.RawText(flat(cell))


def check_totals(blocks):
    """What counts over a whole message."""
    blocks = [block for block in blocks if isinstance(block, dict)]
    tables = [block for block in blocks if block.get("type") in ("table", "data_table")]
    cells = sum(len(text) for table in tables for text in texts(table.get("rows")))
    markdown = sum(len(str(block.get("text"))) for block in blocks if block.get("type") == "markdown")
    if sum(table["type"] == "table" for table in tables) > 1:
        yield "more than one table"
    if cells > TABLE_CHARACTERS:
        yield f"the tables' cells have {cells} characters, more than {TABLE_CHARACTERS}"
    if markdown > MARKDOWN_CHARACTERS:
        yield f"the markdown blocks have {markdown} characters, more than {MARKDOWN_CHARACTERS}"


def check_view(view, at):
    surface = view.get("type") if view.get("type") in ("modal", "home") else "modal"
    refusals = check_blocks(view.get("blocks"), surface, f"{at}/blocks")
    try:
        View(**view).to_dict()
    except Exception as error:  # As above: what slack_sdk cannot read is refused.
        refusals.append((at, f"by slack sdk: {error or type(error).__name__}"))
    return refusals


def check_manifest(manifest):
    features = manifest.get("features") or {}
    events = ((manifest.get("settings") or {}).get("event_subscriptions") or {}).get("bot_events") or []
    display = manifest.get("display_information") or {}
    commands = features.get("slash_commands") or []
    refusals = too_long(display, "display_information", "/manifest/display_information")
    if not display.get("name"):
        refusals.append(("/manifest/display_information/name", "is missing"))
    for index, command in enumerate(commands):
        here = f"/manifest/features/slash_commands/{index}"
        refusals += too_long(command, "slash_commands", here)
        if not str(command.get("command", "")).startswith("/"):
            refusals.append((f"{here}/command", "does not begin with a slash"))
    for key, most in MANIFEST_COUNTS.items():
        if len(features.get(key) or []) > most:
            refusals.append((f"/manifest/features/{key}", f"has more than {most}"))
    if len(events) > MANIFEST_EVENTS:
        refusals.append(("/manifest/settings/event_subscriptions", f"has more than {MANIFEST_EVENTS} events"))
    return refusals


def too_long(values, kind, at):
    lengths = MANIFEST_LENGTHS[kind]
    over = {key: len(str(values.get(key) or "")) for key in lengths if len(str(values.get(key) or "")) > lengths[key]}
    return [(f"{at}/{key}", f"has {count} characters, more than {lengths[key]}") for key, count in over.items()]


def walk(value, path=""):
    """Every dictionary inside a value, with its path."""
    if isinstance(value, dict):
        yield path, value
        for key, item in value.items():
            yield from walk(item, f"{path}/{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from walk(item, f"{path}/{index}")


def texts(value):
    return [item["text"] for _, item in walk(value) if isinstance(item.get("text"), str)]


def flat(cell):
    """The text of a table's cell, which slackblocks takes only as plain text."""
    if cell["type"] not in ("raw_text", "raw_number", "rich_text"):
        raise ValueError(f"a cell of type {cell['type']!r}")
    return "".join(texts(cell)) or str(cell.get("value", ""))


def empty_texts(block, at):
    return [path or "/" for path, item in walk(block, at) if item.get("text") == ""]


def action_ids(block):
    return [item["action_id"] for _, item in walk(block) if "action_id" in item]


def twice(names):
    return sorted({name for name in names if names.count(name) > 1})


def has_none(value):
    if isinstance(value, dict):
        return any(has_none(item) for item in value.values())
    return value is None or (isinstance(value, list) and any(has_none(item) for item in value))
