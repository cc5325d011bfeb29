"""Signs requests as Slack does, by Slack's own library, so that the bot's check is not tested against itself.

Each line of standard input is {"secret": "…", "timestamp": "1700000000", "body": "token=…"}; each line of the answer is its
signature (`v0=…`). Standard input, because a secret does not belong among a command's arguments.
"""

import json
import sys

from slack_sdk.signature import SignatureVerifier

for line in sys.stdin:
    request = json.loads(line)
    verifier = SignatureVerifier(request["secret"])
    print(verifier.generate_signature(timestamp=request["timestamp"], body=request["body"]), flush=True)
