#!/usr/bin/env python3
"""The program's commands: `manage.py help` lists them."""

import os
import sys

from clusteragent.lib.locks import Pooled
from clusteragent.lib.options import OptionError


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "clusteragent.settings")
    from django.core.management import execute_from_command_line
    from django.db import OperationalError as DatabaseAway

    try:
        execute_from_command_line(sys.argv)
    except (OptionError, Pooled) as error:
        sys.exit(f"{error}")
    except DatabaseAway as error:
        if "--traceback" in sys.argv:
            raise
        sys.exit(f"the database is away: {' '.join(str(error).split())}")
    except BrokenPipeError:
        # Whoever read our output has enough of it; what is still buffered must not fail again on the way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
