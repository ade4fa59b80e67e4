"""Write the file from which firstline reads its shipped packs: `python tools/pack_rules.py` after changing one."""

from pathlib import Path

import firstline.data
from firstline.adapters.shipped_rules import PACKED_NAME, packed_rules

if __name__ == "__main__":
    path = Path(firstline.data.__file__).with_name("rules") / PACKED_NAME
    path.write_bytes(packed_rules())
    print(f"{path}: {path.stat().st_size:,} bytes")
