"""What run_autograder starts."""

import sys
from pathlib import Path

from labgrade.autograder import main

sys.exit(main(Path(sys.argv[1]).absolute()))
