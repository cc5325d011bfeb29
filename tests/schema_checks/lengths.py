"""Checks the lengths and counts of what the bot sends, by Slack's own Python models (slack_sdk) and by slackblocks, and what
it sends to Teams, by the official schema of Adaptive Cards.

    python lengths.py [--self-test] [directory | file.jsonl | manifest.yaml]...

The lines of a .jsonl file are as structure.mjs describes them; kinds and keys are structure.mjs's part. Each refusal is printed with
its path. Exits with 1 on any refusal, and when there was no payload to check.
"""

import json
import logging
import sys
from pathlib import Path

import yaml
from cards import check_activity
from limits import TEXT_CHARACTERS, check_blocks, check_manifest, check_view

HERE = Path(__file__).parent
METHODS = json.loads((HERE / "methods.json").read_text())


def check(payload):
    """The refusals of one payload as (path, reason); None for a method that carries no blocks."""
    method, body = payload.get("method"), payload.get("body")
    if method in METHODS["without_blocks"]:
        return None
    if not isinstance(body, dict):
        return [("", "the body is no object")]
    if method in METHODS["activity"]:
        return check_activity(body)
    if method in METHODS["message"]:
        return check_message(method, body)
    if method in METHODS["view"]:
        return check_view(body["view"], "/view") if isinstance(body.get("view"), dict) else [("/view", "is missing")]
    return [("/method", f"{method!r} is not known; see methods.json")]


def check_message(method, body):
    says_nothing = (method == "ack" and not body) or (method == "response" and body.get("delete_original") is True)
    if says_nothing and not body.keys() & {"text", "blocks"}:
        return []
    refusals = []
    text = body.get("text")
    # Without a text Slack has nothing to show in a notification, nor to a screen reader.
    if not isinstance(text, str) or not text.strip():
        refusals.append(("/message/text", "is missing or empty"))
    elif len(text) > TEXT_CHARACTERS:
        refusals.append(("/message/text", f"has {len(text)} characters, more than {TEXT_CHARACTERS}"))
    # An edit with none removes them: https://docs.slack.dev/reference/methods/chat.update.
    removes_blocks = method == "chat.update" and body.get("blocks") == [] and body.get("text")
    if "blocks" in body and not removes_blocks:
        refusals += check_blocks(body["blocks"], "message", "/message/blocks")
    return refusals


def expand(value):
    """Stands for long values in known.json, as in structure.mjs."""
    if isinstance(value, list):
        return [expand(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "$repeat" in value:
        one = expand(value["$repeat"])
        return one * value["times"] if isinstance(one, str) else [one] * value["times"]
    return {key: expand(item) for key, item in value.items()}


def self_test():
    """What is known to be bad must be refused at the place that is bad, and what is known to be good accepted."""
    known = [expand(case) for case in json.loads((HERE / "known.json").read_text())]
    # Microsoft's schema knows the lengths of Teams' manifest too: the other check reads it.
    known = [case for case in known if "teams_manifest" not in case]
    failures = bad = 0
    for case in known:
        refusals = check_manifest(case["manifest"]) if "manifest" in case else check(case["payload"]) or []
        if "limits" in case["refused_by"]:
            bad += 1
            right, expected = any(path.startswith(case["at"]) for path, _ in refusals), f"a refusal at {case['at']}"
        else:
            # Mistakes of structure are the other check's; this one may see them too.
            right, expected = not refusals or bool(case["refused_by"]), "no refusal"
        if not right:
            failures += 1
            print(f"self-test: {case['name']}: expected {expected}")
            for path, why in refusals:
                print(f"    {path} {why}")
    print(f"self-test of the lengths: {bad} refused, {len(known) - bad} others, {failures} wrong")
    return failures == 0 and bad > 0


def files_of(path):
    path = Path(path)
    return sorted(path.glob("*.jsonl")) if path.is_dir() else [path]


def check_files(paths):
    checked = refused = 0
    for file in (file for path in paths for file in files_of(path)):
        if file.suffix == ".json":
            continue
        if file.suffix != ".jsonl":
            verdicts = [(file, check_manifest(yaml.safe_load(file.read_text())))]
        else:
            lines = enumerate(file.read_text().split("\n"), 1)
            verdicts = [(f"{file}:{number}", check(json.loads(line))) for number, line in lines if line.strip()]
            checked += sum(refusals is not None for _, refusals in verdicts)
        for place, refusals in verdicts:
            refused += bool(refusals)
            for path, why in refusals or []:
                print(f"{place}: {path or '/'} {why}")
    if refused:
        print(f"{refused} refused")
    print(f"{checked} payloads checked")
    return refused == 0 and checked > 0


def main(args):
    paths = [arg for arg in args if arg != "--self-test"]
    sound = "--self-test" not in args or self_test()
    clean = check_files(paths) if paths else bool(args)
    return 0 if sound and clean else 1


if __name__ == "__main__":
    # slack_sdk logs what it does not know and goes on; here that is refused or left to structure.mjs.
    logging.getLogger("slack_sdk").setLevel(logging.CRITICAL)
    sys.exit(main(sys.argv[1:]))
