"""Checks Teams' messages: the card by the official schema of Adaptive Cards 1.5, and what that schema doesn't know of Teams."""

import copy
import json
import re
from functools import cache
from importlib.resources import files

from jsonschema import Draft6Validator

# https://learn.microsoft.com/microsoftteams/platform/bots/how-to/format-your-bot-messages: the oldest limit of a message with a
# card, and the strictest.
ACTIVITY_BYTES = 28_000
# https://learn.microsoft.com/microsoftteams/platform/task-modules-and-cards/cards/universal-actions-for-adaptive-cards/user-specific-views
USER_IDS = 60
# https://learn.microsoft.com/microsoftteams/platform/task-modules-and-cards/cards/cards-reference: what is more goes into a menu.
VISIBLE_ACTIONS = 6
CARD = "application/vnd.microsoft.card.adaptive"
ACTIVITY_KEYS = {"type", "text", "textFormat", "summary", "attachments", "recipient", "replyToId", "channelData", "from", "conversation", "importance", "locale", "entities", "value", "id", "serviceUrl", "channelId", "inputHint"}
QUERY_KEYS = {"type", "dataset", "count", "skip", "associatedInputs"}
MSTEAMS_KEYS = {"width", "entities"}
MENTION = re.compile(r"<at>.*?</at>")


@cache
def schema():
    return Draft6Validator(json.loads(files("adaptive_cards").joinpath("schemas/schema-1.5.json").read_text()))


def check_activity(activity):
    """The refusals of a message as (path, reason)."""
    refusals = [(f"/activity/{key}", "is no key of a message") for key in activity.keys() - ACTIVITY_KEYS]
    if activity.get("type") != "message":
        refusals.append(("/activity/type", "is not message"))
    size = len(json.dumps(activity, ensure_ascii=False, separators=(",", ":")).encode())
    if size > ACTIVITY_BYTES:
        refusals.append(("/activity", f"has {size} bytes, more than {ACTIVITY_BYTES}"))
    attachments = activity.get("attachments") or []
    if not attachments and not str(activity.get("text") or "").strip():
        refusals.append(("/activity", "says nothing"))
    # Without it a notification says "sent a card".
    if attachments and not str(activity.get("summary") or "").strip():
        refusals.append(("/activity/summary", "is missing or empty"))
    for index, attachment in enumerate(attachments):
        at = f"/activity/attachments/{index}"
        if attachment.keys() != {"contentType", "content"} or attachment["contentType"] != CARD:
            refusals.append((at, "is no card"))
        else:
            refusals += check_card(attachment["content"], f"{at}/content")
    return refusals


def check_card(card, at):
    if not isinstance(card, dict) or card.get("type") != "AdaptiveCard":
        return [(at, "is no card")]
    teams = card.get("msteams", {})
    bare = copy.deepcopy({key: value for key, value in card.items() if key != "msteams"})
    refusals = [(at + path, why) for path, why in queries(bare)]
    refusals += [(at + path, why) for path, why in by_schema(bare)]
    if card.get("version") != "1.5":
        refusals.append((f"{at}/version", f"is {card.get('version')!r}: phones know 1.5"))
    if not card.get("body"):
        refusals.append((f"{at}/body", "is empty"))
    refusals += [(f"{at}/msteams/{key}", "is no key of msteams") for key in teams.keys() - MSTEAMS_KEYS]
    if teams.get("width", "Full") != "Full":
        refusals.append((f"{at}/msteams/width", "is not Full"))
    refusals += [(at + path, why) for path, why in mentions(bare, teams.get("entities", []))]
    ids = (card.get("refresh") or {}).get("userIds")
    if ids is not None and not 1 <= len(ids) <= USER_IDS:
        refusals.append((f"{at}/refresh/userIds", f"has {len(ids)} ids; 1 to {USER_IDS} are allowed"))
    return refusals + [(at + path, why) for path, why in elements(bare)]


def by_schema(card):
    for error in schema().iter_errors(card):
        # The schema is one great choice: what reached deepest is what was meant.
        deepest = error
        while deepest.context:
            deepest = max(deepest.context, key=lambda inner: (len(inner.absolute_path), inner.validator != "enum"))
        yield "".join(f"/{step}" for step in deepest.absolute_path), deepest.message[:200]


def queries(card):
    """Takes the queries of choices out of a card, and their style: Teams has them, and the schema of 1.5 doesn't.

    https://learn.microsoft.com/microsoftteams/platform/task-modules-and-cards/cards/dynamic-search
    """
    for path, item in list(walk(card)):
        query = item.pop("choices.data", None)
        if query is None:
            continue
        if item.get("type") != "Input.ChoiceSet" or item.pop("style", None) != "filtered":
            yield path, "is no list that can be searched"
        if not isinstance(query, dict) or query.keys() - QUERY_KEYS or query.get("type") != "Data.Query":
            yield f"{path}/choices.data", "is no query"
        elif not isinstance(query.get("dataset"), str) or not query["dataset"]:
            yield f"{path}/choices.data/dataset", "is missing or empty"


def mentions(card, entities):
    """A mention is a text of the card, and names somebody."""
    blocks = [(path, item) for path, item in walk(card) if item.get("type") == "TextBlock"]
    said = {mention for _, block in blocks for mention in MENTION.findall(str(block.get("text")))}
    declared = [entity.get("text") for entity in entities]
    for index, entity in enumerate(entities):
        here = f"/msteams/entities/{index}"
        mentioned = entity.get("mentioned") or {}
        if entity.keys() != {"type", "text", "mentioned"} or entity["type"] != "mention":
            yield here, "is no mention"
        elif not mentioned.get("id") or entity["text"] != f"<at>{mentioned.get('name')}</at>":
            yield here, "names nobody, or not as it is shown"
        elif entity["text"] not in said:
            yield here, "is nowhere in the card"
    if len(set(declared)) < len(declared):
        yield "/msteams/entities", "one is given twice"
    for path, block in blocks:
        for mention in MENTION.findall(str(block.get("text"))):
            if mention not in declared:
                yield path, f"{mention} is not declared"


def elements(card):
    for path, item in walk(card):
        kind = item.get("type")
        empty = [key for key in ("text", "title") if item.get(key) == ""]
        if empty or "" in (item.get("inlines") or []):
            yield path, "a text is empty"
        for key in ("inlines", "actions", "cells", "rows", "items", "body"):
            if item.get(key) == []:
                yield f"{path}/{key}", "is empty"
        actions = item.get("actions") or []
        if sum(action.get("mode") != "secondary" for action in actions) > VISIBLE_ACTIONS:
            yield f"{path}/actions", f"more than {VISIBLE_ACTIONS} are visible"
        if kind == "Action.Execute":
            yield from execute(path, item)
        if kind == "Table":
            widths = {len(row["cells"]) for row in item.get("rows", [])} | {len(item.get("columns", []))}
            if len(widths) > 1:
                yield path, "its rows are not all as wide as its columns"


def execute(path, action):
    if not action.get("verb") or not isinstance(action.get("data"), dict) or not action["data"]:
        yield path, "has no verb or no data"
    # What refreshes has no face, and clients without it never see it.
    if not path.startswith("/refresh"):
        fallback = action.get("fallback")
        if not isinstance(fallback, dict) or fallback.get("type") != "Action.Submit":
            yield path, "has no Submit to fall back to"
        elif fallback.get("data") != action.get("data"):
            yield path, "falls back to something else"


def walk(value, path=""):
    """Every dictionary inside a value, with its path."""
    if isinstance(value, dict):
        yield path, value
        for key, item in value.items():
            yield from walk(item, f"{path}/{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from walk(item, f"{path}/{index}")
