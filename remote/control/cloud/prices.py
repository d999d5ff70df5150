"""List prices of common GPU boxes: enough to show the order of a bill before it is made. Never an invoice.

On-demand, Linux, us-east-1, US dollars an hour. Other regions are up to half as much again; they are shown with a tilde.
Billing is by the second. Source: https://aws.amazon.com/ec2/pricing/on-demand/ and https://aws.amazon.com/ebs/pricing/.
"""

AS_OF = "June 2026"
HOME_REGION = "us-east-1"
GP3_USD_PER_GB_MONTH = 0.08
HOURS_PER_MONTH = 730

HOURLY_USD = {
    "t3.large": 0.0832,
    "g4dn.xlarge": 0.526,
    "g4dn.2xlarge": 0.752,
    "g4dn.4xlarge": 1.204,
    "g5.xlarge": 1.006,
    "g5.2xlarge": 1.212,
    "g5.4xlarge": 1.624,
    "g5.8xlarge": 2.448,
    "g5.12xlarge": 5.672,
    "g6.xlarge": 0.8048,
    "g6.2xlarge": 0.9776,
    "g6.4xlarge": 1.3232,
    "g6.8xlarge": 2.0144,
    "g6e.xlarge": 1.861,
    "g6e.2xlarge": 2.24208,
    "g6e.4xlarge": 3.00424,
}


def hourly(instance_type: str) -> float | None:
    """Dollars an hour of a running instance in us-east-1, without its disk; None for a type the table does not hold."""
    return HOURLY_USD.get(instance_type)


def disk_monthly(disk_gb: int) -> float:
    """Dollars a month for a gp3 disk, whether its instance runs or not."""
    return disk_gb * GP3_USD_PER_GB_MONTH


def in_words(instance_type: str, region: str, disk_gb: int) -> str:
    """The price as a person reads it, with its date."""
    price = hourly(instance_type)
    disk = f"+ ${disk_monthly(disk_gb):.2f}/month for the disk, also while stopped"
    if price is None:
        return f"not in the table of {AS_OF}: see aws.amazon.com/ec2/pricing {disk}"
    about = "" if region == HOME_REGION else "~"
    return f"{about}${price:.3f}/h {disk} (list prices of {HOME_REGION}, {AS_OF})"
