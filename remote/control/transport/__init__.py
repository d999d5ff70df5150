"""The one way to a box: run a command, stream both ways, push a release, pull an artifact. Dry-run
and fake are transports too."""
