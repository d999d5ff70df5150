"""A cloud on this machine: the EC2, S3, SSM … wire API on loopback, and instances one can really
log in to.

`remote.control.cloud.embedded` starts, finds and ends it. Everything here runs
inside its background process: `server` (the process), `wire` (HTTP in front of moto), `account`
(moto's EC2 model, tied to real machines, and what is kept of it), `machine` (one instance: disk,
boot, halt, console), `guest` (what a box sees of itself), `openssh` and `library` (its SSH server),
`metadata` (its IMDS endpoint), `disk` (a full one), `processes` (finding and ending all that an
instance started). What moto lacks is beside it: `launches` (capacity, quotas, the spot market),
`catalog` (prices, quotas), `images`, `parameters`, `instance_connect`. `faults` and `answers` have
things go wrong, `leaks` counts what is left, `store` keeps it all.
"""
