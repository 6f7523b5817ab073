"""What a command said, read again."""

import json


def parsed(said):
    code, out, err = said
    assert (code, err) == (0, "")
    return json.loads(out)
