"""`python -m clusteragent`: the command, where it is not installed or not on the PATH."""

from clusteragent.command import main

if __name__ == "__main__":
    main()
