"""Packs the Teams app: manifest.json and the two icons, with the bot's own id and host filled in.

    python package.py <app id> <host> <file.zip>

The app id is the client id of the bot's Entra app registration (or of its managed identity), the host where Countersign's door is
reachable. In manifest.json a GUID of zeros is the placeholder of the one and countersign.example.com of the other.
"""

import json
import re
import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
NO_ID, NO_HOST = "00000000-0000-0000-0000-000000000000", "countersign.example.com"
GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
HOST = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+")


def main(app_id, host, archive):
    app_id = app_id.lower()
    if not GUID.fullmatch(app_id) or app_id == NO_ID:
        return f"the app id {app_id!r} is no client id: it is a GUID, on the overview of the app registration"
    if not HOST.fullmatch(host) or host == NO_HOST:
        return f"{host!r} is no host: name the one under which Teams reaches Countersign, as in countersign.contoso.com"
    manifest = (HERE / "manifest.json").read_text().replace(NO_ID, app_id).replace(NO_HOST, host)
    icons = json.loads(manifest)["icons"].values()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr("manifest.json", manifest)
        for icon in icons:
            package.write(HERE / icon, icon)
    print(f"{archive}: upload it in the Teams admin center, under Teams apps, Manage apps")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) == 4 else __doc__)
