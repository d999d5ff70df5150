"""What the account behind a box must allow, asked of the cloud itself. Nothing here makes, changes
or costs anything.

One exception is told: the bucket's rights are tried with an object of a few bytes, which is removed
again.
"""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cached_property, partial
from typing import Any

from remote.contract.job.checks import Check, Verdict, judge, skipped
from remote.control.cloud.access import keys
from remote.control.cloud.account import endpoint, quotas, refusals
from remote.control.cloud.ec2 import request
from remote.control.cloud.ec2.offers import Offer, offers_of
from remote.control.cloud.pricing import estimate
from remote.control.config.inventory import CloudEntry
from remote.control.errors import ConfigError, WindlassError

_SKEW_SECONDS = 60
"""AWS refuses requests that are signed five minutes off."""


@dataclass(frozen=True)
class Account:
    """The cloud behind one entry of the inventory, and what the entry wants of it."""

    entry: CloudEntry
    bucket: str | None

    @cached_property
    def there(self) -> endpoint.Endpoint:
        """Where the entry's region is asked."""
        return endpoint.of_entry(self.entry)

    def checks(self) -> Iterator[Check]:
        """Every check of the entry; where the credentials fail, only that."""
        found = self._explained("credentials", self._credentials)
        yield from found
        if any(check.verdict is Verdict.FAIL for check in found):
            yield skipped("the rest", "nothing more can be asked without credentials")
            return
        for name, check in self._questions():
            yield from self._explained(name, check)

    def _questions(self) -> Iterator[tuple[str, Callable[[], list[Check]]]]:
        yield "zone", self._zone
        yield "key", self._key
        yield "image", self._image
        yield "network", self._network
        for offer in offers_of(self.entry):
            yield f"quota {offer.market}", partial(self._quota, offer)
        yield "permission", self._permission
        yield "bucket", self._bucket
        yield "instance profile", self._profile

    def _explained(self, name: str, ask: Callable[[], list[Check]]) -> list[Check]:
        """The answer, or the refusal as a failed check."""
        try:
            with refusals.explained(self._context):
                return ask()
        except ConfigError as error:
            return [
                Check(name, finding.what, finding.expected, Verdict.FAIL, finding.remedy)
                for finding in error.findings
            ]
        except WindlassError as error:
            return [
                Check(
                    name,
                    f"{error.what}: {error.why}" if error.why else error.what,
                    "an answer",
                    Verdict.FAIL,
                    error.remedy,
                )
            ]

    @cached_property
    def _context(self) -> refusals.Context:
        there = self.there
        return refusals.Context(
            self.entry.name, there.region, self.entry.instance_type, there.regions
        )

    def _credentials(self) -> list[Check]:
        from botocore.exceptions import ClientError

        try:
            told = self.there.client("sts").get_caller_identity()
        except ClientError as error:
            # A clock that is off makes every signature wrong: then the clock is what is to be
            # fixed.
            wrong = [
                check for check in self._clock(error.response) if check.verdict is Verdict.FAIL
            ]
            if not wrong:
                raise
            return wrong
        return [Check("credentials", str(told["Arn"]), "accepted", Verdict.OK), *self._clock(told)]

    def _clock(self, answer: Mapping[str, Any]) -> list[Check]:
        date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        if not date:
            return []
        ahead = time.time() - parsedate_to_datetime(date).timestamp()
        good = abs(ahead) <= _SKEW_SECONDS
        told = (
            f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the cloud's"
            if not good
            else "agrees with the cloud's"
        )
        return [
            judge(
                good,
                "clock",
                told,
                f"within {_SKEW_SECONDS} s",
                "set the laptop's clock: `sudo timedatectl set-ntp true`",
            )
        ]

    def _zone(self) -> list[Check]:
        ec2 = self.there.client("ec2")
        zones = {
            each["ZoneName"] for each in ec2.describe_availability_zones()["AvailabilityZones"]
        }
        filters = [{"Name": "instance-type", "Values": [self.entry.instance_type]}]
        answer = ec2.describe_instance_type_offerings(
            LocationType="availability-zone", Filters=filters
        )
        offered = sorted(zones & {each["Location"] for each in answer["InstanceTypeOfferings"]})
        good = self.entry.zone in offered if self.entry.zone else bool(offered)
        remedy = (
            f"set another `zone:`, `region:` or `instance_type:` of {self.entry.name} in"
            " inventory.yaml"
        )
        told = (
            f"{self.entry.instance_type} in"
            f" {', '.join(offered) or 'no zone of ' + self.there.region}"
        )
        return [judge(good, "zone", told, self.entry.zone or "one zone at least", remedy)]

    def _key(self) -> list[Check]:
        # Only looked at: a key of Windlass's own is made by the first launch.
        key = keys.private_key(self.entry)
        return [
            Check(
                "key",
                str(key) if key else "one of Windlass's own, made by the first launch",
                "a private key",
                Verdict.OK,
            )
        ]

    def _image(self) -> list[Check]:
        found = request.image(self.entry, self.there, self._context)
        return [
            Check(
                "image", f"{found['ImageId']} {found.get('Name', '')}".strip(), "there", Verdict.OK
            )
        ]

    def _network(self) -> list[Check]:
        ec2 = self.there.client("ec2")
        if self.entry.subnet:
            subnet = ec2.describe_subnets(SubnetIds=[self.entry.subnet])["Subnets"][0]
            return [
                Check("network", f"{self.entry.subnet} in {subnet['VpcId']}", "there", Verdict.OK)
            ]
        found = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
        remedy = (
            f"`aws ec2 create-default-vpc --region {self.there.region}`, or name a `subnet:` of"
            f" {self.entry.name}"
        )
        return [
            judge(
                bool(found),
                "network",
                found[0]["VpcId"] if found else "no default VPC",
                "a default VPC",
                remedy,
            )
        ]

    def _quota(self, offer: Offer) -> list[Check]:
        room = quotas.room(offer, self.there)
        if room is None:
            return [
                skipped(
                    f"quota {offer.market}",
                    "not told: the credentials may not ask, or there is none",
                    str(offer),
                )
            ]
        told = f"{room.used} of {room.applied} vCPUs in use"
        expected = f"{room.needed} more for {offer}"
        return [
            judge(not room.lacks, f"quota {room.code}", told, expected, f"`{room.request_command}`")
        ]

    def _permission(self) -> list[Check]:
        refusal = estimate.permitted(self.entry, self.there)
        remedy = "give the credentials the policy that `./inv doctor --policy user` prints"
        return [
            judge(
                refusal is None,
                "permission",
                refusal or "a launch is allowed (dry run)",
                "may launch",
                remedy,
            )
        ]

    def _bucket(self) -> list[Check]:
        if not self.bucket:
            return [
                skipped(
                    "bucket", "none in inventory.yaml: what a spot box spills has nowhere to go"
                )
            ]
        s3, key = self.there.client("s3"), f"windlass/doctor-{secrets.token_hex(6)}"
        s3.put_object(Bucket=self.bucket, Key=key, Body=b"windlass doctor")
        s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        s3.delete_object(Bucket=self.bucket, Key=key)
        return [
            Check("bucket", f"s3://{self.bucket}: written, read, removed", "all three", Verdict.OK)
        ]

    def _profile(self) -> list[Check]:
        if not self.entry.instance_profile:
            return [
                skipped(
                    "instance profile",
                    "none: the box has no rights of its own, it spills by addresses that the laptop"
                    " signs",
                )
            ]
        found = self.there.client("iam").get_instance_profile(
            InstanceProfileName=self.entry.instance_profile
        )["InstanceProfile"]
        roles = ", ".join(role["RoleName"] for role in found["Roles"])
        remedy = (
            "add a role of the same name, with the policy that `./inv doctor --policy box` prints:"
            " docs/aws.md"
        )
        return [judge(bool(roles), "instance profile", roles or "without a role", "a role", remedy)]
