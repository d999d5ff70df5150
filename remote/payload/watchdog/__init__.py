"""The watchdog of a box: it stops the box when a clock runs out, and when it fails itself. Standard
library only.

It travels in the user-data, as a zip file of its own beside its settings (`/var/lib/windlass`;
where no systemd runs `~/.windlass-box`), so that it runs before SSH exists and before anything is
deployed:

```
watchdog.pyz   this package           config.json    where Windlass's folder is, and whose
limits.json    the clocks             notify         an address told of what happens; for its
owner's eyes alone extra.json     what `box.extend` added to this start's clocks
clock.json     what was counted       reading.json   how the clocks stand
log            what it did            lock           held by the one that runs, with its pid inside
```

A shutdown is always planned, some minutes ahead, and pushed forward by each round that went well: a
watchdog that is killed, hangs or fails lets it come.
"""
