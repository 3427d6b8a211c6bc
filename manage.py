#!/usr/bin/env python3
"""The program's commands: `manage.py help` lists them."""

import os
import sys

from clusteragent.lib.options import OptionError


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "clusteragent.settings")
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
    except OptionError as error:
        sys.exit(f"{error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
