#!/usr/bin/env python3
"""Django's and the program's commands in a checkout: `manage.py help` lists them. `clusteragent` is for users."""

import os
import sys

from clusteragent.command import errors_in_one_line


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "clusteragent.settings")
    from django.core.management import execute_from_command_line

    with errors_in_one_line():
        execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
