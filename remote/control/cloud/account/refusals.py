"""What a cloud's refusal means for its reader: one table from error code to error class and
remedy."""

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from remote.control.cloud.account import credentials
from remote.control.errors import (
    CapacityError,
    CloudError,
    CredentialsMissing,
    PermissionDenied,
    QuotaError,
    RegionError,
)


@dataclass(frozen=True)
class Refusal:
    """One kind of refusal. `what` and `remedy` may name {name}, {region}, {zone} and {kind}, the
    instance type."""

    error: type[CloudError]
    what: str
    remedy: str


_CAPACITY = Refusal(
    CapacityError,
    "{region} has no {kind} to give just now",
    "`./inv launch {name} --wait 30m` tries again and again for so long; or name other zones,"
    " regions, types or markets as `fallbacks:` of {name} in inventory.yaml, then `./inv launch"
    " {name}`",
)
_NOT_OFFERED = Refusal(
    CapacityError,
    "{kind} is not offered in that zone",
    "set another `zone:`, `subnet:` or `instance_type:` of {name} in inventory.yaml, or add"
    " `fallbacks:`, then `./inv launch {name}`",
)
_UNSUPPORTED = Refusal(
    CloudError,
    "{region} does not support that configuration of {kind}",
    "correct `instance_type:`, `ami:` or `market:` of {name} in inventory.yaml, as the reason above"
    " says, then `./inv launch {name}`",
)
_PRICE = Refusal(
    CapacityError,
    "a spot {kind} in {region} costs more than `max_spot_usd` allows just now",
    "raise `max_spot_usd:` of {name} in inventory.yaml (`./inv launch {name} --dry-run` shows"
    " prices), or add a fallback with `market: on-demand`",
)
_VCPUS = Refusal(
    QuotaError,
    "the account's vCPU quota in {region} is too small for {kind}",
    "ask for more: `aws service-quotas request-service-quota-increase --region {region}"
    " --service-code ec2 --quota-code L-DB2E81BA --desired-value 8` (G and VT types; g5.2xlarge"
    " needs 8 vCPUs), then `./inv launch {name}`; see docs/aws.md",
)
_SPOT_VCPUS = Refusal(
    QuotaError,
    "the account's quota of spot vCPUs in {region} is too small for {kind}",
    "ask for more: `aws service-quotas request-service-quota-increase --region {region}"
    " --service-code ec2 --quota-code L-3819A6DF --desired-value 8` (G and VT types; g5.2xlarge"
    " needs 8 vCPUs), or set `market: on-demand`, then `./inv launch {name}`; see docs/aws.md",
)
_OTHER_QUOTA = Refusal(
    QuotaError,
    "a quota of the account in {region} is used up",
    "free something, or ask for more in the Service Quotas console of {region}, then repeat the"
    " command",
)
_PERMISSION = Refusal(
    PermissionDenied,
    "the credentials may not do that",
    "give them the policy that `./inv doctor --policy user` prints, or use others (`export"
    " AWS_PROFILE=...`), then repeat the command",
)
_CREDENTIALS = Refusal(
    CredentialsMissing,
    "AWS does not accept the credentials",
    "log in again (`aws sso login`, or new keys with `aws configure`), try `aws sts"
    " get-caller-identity`, then repeat the command",
)
_CLOCK = Refusal(
    CredentialsMissing,
    "AWS refuses the signature as too old: the laptop's clock is off",
    "set the laptop's clock: `sudo timedatectl set-ntp true`, then repeat the command; `./inv"
    " doctor` tells by how much it is off",
)
_NO_CREDENTIALS = Refusal(
    CredentialsMissing,
    "no AWS credentials were found",
    "`aws configure sso` or `aws configure`, or export AWS_PROFILE, then repeat the command; see"
    " docs/aws.md",
)
_THROTTLED = Refusal(
    CloudError,
    "AWS asks for fewer requests, also after several tries",
    "wait a minute, then repeat the command",
)
_IMAGE = Refusal(
    CloudError,
    "the machine image is not to be had in {region}",
    "find one with `aws ssm get-parameters-by-path --region {region} --path"
    " /aws/service/deeplearning/ami/x86_64 --recursive --query 'Parameters[].Name'` and name it as"
    " `ami:` of {name} in inventory.yaml",
)
_NETWORK_NAME = Refusal(
    CloudError,
    "a subnet or VPC of the inventory does not exist in {region}",
    "correct `subnet:` of {name} in inventory.yaml (`aws ec2 describe-subnets --region {region}`)",
)
_NO_NETWORK = Refusal(
    CloudError,
    "{region} has no default VPC",
    "`aws ec2 create-default-vpc --region {region}`, or name a `subnet:` of {name} in"
    " inventory.yaml",
)
_NO_SUBNET = Refusal(
    CloudError,
    "zone {zone} has no default subnet",
    "`aws ec2 create-default-subnet --region {region} --availability-zone {zone}`, or name another"
    " `zone:`, a `subnet:` or `fallbacks:` of {name} in inventory.yaml, then `./inv launch {name}`",
)
_SUBNET_FULL = Refusal(
    CloudError,
    "the subnet in {zone} has no free address",
    "`aws ec2 describe-subnets --region {region} --query"
    " 'Subnets[].[SubnetId,AvailabilityZone,AvailableIpAddressCount]'` shows those that have: name"
    " one as `subnet:` of {name} in inventory.yaml, or another `zone:`, then `./inv launch {name}`",
)
_OTHER_NETWORK = Refusal(
    CloudError,
    "the box's security group lies in another network than its subnet",
    "`./inv terminate {name}` takes the group away where no instance has it, and `./inv launch"
    " {name}` makes it in the network of `subnet:`",
)
_ZONE = Refusal(
    CloudError,
    "{region} has no such zone, or none for this account",
    "correct `zone:` of {name} in inventory.yaml (`aws ec2 describe-availability-zones --region"
    " {region} --query 'AvailabilityZones[].ZoneName'`)",
)
_TYPE = Refusal(
    CloudError,
    "there is no instance type {kind} in {region}",
    "correct `instance_type:` of {name} in inventory.yaml (`aws ec2"
    " describe-instance-type-offerings --region {region} --filters Name=instance-type,Values='g*'"
    " --query 'InstanceTypeOfferings[].InstanceType'`)",
)
_PROFILE = Refusal(
    CloudError,
    "there is no instance profile of that name",
    "make it, as docs/aws.md has it, or correct `instance_profile:` of {name} in inventory.yaml"
    " (`aws iam list-instance-profiles`)",
)
_KMS = Refusal(
    CloudError,
    "the key that encrypts the account's disks in {region} cannot be used",
    "`aws ec2 get-ebs-default-kms-key-id --region {region}` names it: enable it, or give the"
    " credentials kms:CreateGrant on it, then `./inv launch {name}`",
)
_STATE = Refusal(
    CloudError,
    "the instance is between two states, or still in use",
    "`./inv status {name}` shows its state; wait a minute, then repeat the command",
)
_AWS_FAULT = Refusal(
    CloudError,
    "AWS has a fault of its own just now",
    "wait a minute, then repeat the command; https://health.aws.amazon.com tells",
)
_KEY_NAME = Refusal(
    CloudError,
    "the EC2 key pair of the inventory does not exist in {region}",
    "correct `key_name:` of {name} in inventory.yaml, or remove it: Windlass then imports the key"
    " itself",
)
_DISK = Refusal(
    CloudError,
    "the disk does not fit the image",
    "raise `disk_gb:` of {name} in inventory.yaml, then `./inv launch {name}`",
)
_REGION = Refusal(
    RegionError,
    "region {region} is unknown, or not enabled for the account",
    "correct `region:` of {name} in inventory.yaml (`aws ec2 describe-regions --query"
    " 'Regions[].RegionName'`)",
)
_UNREACHABLE = Refusal(
    CloudError,
    "the cloud's endpoint does not answer",
    "check the laptop's network, proxy and clock, then repeat the command",
)
_OTHER = Refusal(
    CloudError, "the cloud refused", "see the reason above; docs/aws.md lists what Windlass needs"
)

_BY_CODE = {
    "InsufficientInstanceCapacity": _CAPACITY,
    "InsufficientHostCapacity": _CAPACITY,
    "InsufficientCapacity": _CAPACITY,
    "InsufficientReservedInstanceCapacity": _CAPACITY,
    "ReservationCapacityExceeded": _CAPACITY,
    "UnfulfillableCapacity": _CAPACITY,
    "SpotMaxPriceTooLow": _PRICE,
    "Unsupported": _UNSUPPORTED,
    "VcpuLimitExceeded": _VCPUS,
    "MaxSpotInstanceCountExceeded": _SPOT_VCPUS,
    "InstanceLimitExceeded": _VCPUS,
    "VolumeLimitExceeded": _OTHER_QUOTA,
    "MaxIOPSLimitExceeded": _OTHER_QUOTA,
    "SecurityGroupLimitExceeded": _OTHER_QUOTA,
    "NetworkInterfaceLimitExceeded": _OTHER_QUOTA,
    "ResourceLimitExceeded": _OTHER_QUOTA,
    "AddressLimitExceeded": _OTHER_QUOTA,
    "VpcLimitExceeded": _OTHER_QUOTA,
    "RulesPerSecurityGroupLimitExceeded": _OTHER_QUOTA,
    "SnapshotLimitExceeded": _OTHER_QUOTA,
    "PendingSnapshotLimitExceeded": _OTHER_QUOTA,
    "TagLimitExceeded": _OTHER_QUOTA,
    "UnauthorizedOperation": _PERMISSION,
    "AccessDenied": _PERMISSION,
    "AccessDeniedException": _PERMISSION,
    "403": _PERMISSION,  # of a HEAD, whose answer has no body to say more
    "OptInRequired": _PERMISSION,
    "Blocked": _PERMISSION,
    "PendingVerification": _PERMISSION,
    "AuthFailure": _CREDENTIALS,
    "InvalidClientTokenId": _CREDENTIALS,
    "UnrecognizedClientException": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "InvalidSignatureException": _CREDENTIALS,
    "IncompleteSignature": _CREDENTIALS,
    "MissingAuthenticationToken": _CREDENTIALS,
    "ExpiredToken": _CREDENTIALS,
    "ExpiredTokenException": _CREDENTIALS,
    "RequestExpired": _CLOCK,
    "RequestTimeTooSkewed": _CLOCK,
    "RequestLimitExceeded": _THROTTLED,
    "EC2ThrottledException": _THROTTLED,
    "Throttling": _THROTTLED,
    "ThrottlingException": _THROTTLED,
    "TooManyRequestsException": _THROTTLED,
    "InvalidAMIID.NotFound": _IMAGE,
    "InvalidAMIID.Malformed": _IMAGE,
    "InvalidAMIID.Unavailable": _IMAGE,
    "ParameterNotFound": _IMAGE,
    "InvalidSubnetID.NotFound": _NETWORK_NAME,
    "InvalidSubnetId.NotFound": _NETWORK_NAME,
    "InvalidSubnetID.Malformed": _NETWORK_NAME,
    "InvalidSubnetId.Malformed": _NETWORK_NAME,
    "InvalidVpcID.NotFound": _NETWORK_NAME,
    "MissingInput": _NO_SUBNET,
    "InsufficientFreeAddressesInSubnet": _SUBNET_FULL,
    "InvalidParameter": _OTHER_NETWORK,
    "InvalidInstanceType": _TYPE,
    "InvalidKMSKey.InvalidState": _KMS,
    "InvalidKMSKey.NotFound": _KMS,
    "KMSKeyNotAccessibleFault": _KMS,
    "IncorrectInstanceState": _STATE,
    "IncorrectState": _STATE,
    "DependencyViolation": _STATE,
    "InternalError": _AWS_FAULT,
    "InternalFailure": _AWS_FAULT,
    "ServiceUnavailable": _AWS_FAULT,
    "Unavailable": _AWS_FAULT,
    "VPCIdNotSpecified": _NO_NETWORK,
    "DefaultVpcDoesNotExist": _NO_NETWORK,
    "InvalidKeyPair.NotFound": _KEY_NAME,
    "InvalidBlockDeviceMapping": _DISK,
}

_BY_MESSAGE = (
    ("Unsupported", "Availability Zone", _NOT_OFFERED),
    ("InvalidParameterValue", "IAM Instance Profile", _PROFILE),
    ("InvalidParameterValue", "vailability zone", _ZONE),
    ("InvalidParameterValue", "InstanceType", _TYPE),
    ("InvalidParameterCombination", "different networks", _OTHER_NETWORK),
)
"""Codes that say many things: the code, what the message has in it, the refusal. These go before
the table by code alone."""

_ONLY_WITH = {"MissingInput": "subnet", "InvalidParameter": "different networks"}
"""Codes that are known for one message alone."""

_OF_THE_USER = (
    "PartialCredentialsError",
    "ProfileNotFound",
    "CredentialRetrievalError",
    "MetadataRetrievalError",
    "NoAuthTokenError",
    "TokenRetrievalError",
    "SSOError",
    "LoginError",
    "RefreshWithMFAUnsupportedError",
    "MissingDependencyException",
    "UnknownCredentialError",
    "UnknownTokenProviderError",
    "ConfigParseError",
    "ConfigNotFound",
    "InvalidConfigError",
    "InvalidIMDSEndpointError",
    "InvalidIMDSEndpointModeError",
    "InvalidRetryConfigurationError",
    "InvalidDefaultsMode",
    "InvalidSTSRegionalEndpointsConfigError",
    "InvalidS3UsEast1RegionalEndpointConfigError",
    "InvalidS3AddressingStyleError",
    "InvalidProxiesConfigError",
    "InvalidChecksumConfigError",
    "InvalidEndpointConfigurationError",
    "InvalidEndpointDiscoveryConfigurationError",
    "EndpointVariantError",
    "UnknownFIPSEndpointError",
    "UnknownSignatureVersionError",
    "UnsupportedSignatureVersionError",
    "UnsupportedServiceProtocolsError",
)
"""What botocore raises for the user's own credentials, files and variables: `credentials` tells it
by profile and way."""

_BY_EXCEPTION = {
    "NoCredentialsError": _NO_CREDENTIALS,
    "InvalidRegionError": _REGION,
    "NoRegionError": _REGION,
    "UnknownRegionError": _REGION,
    "BaseEndpointResolverError": _REGION,
    "ConnectionError": _UNREACHABLE,
    "HTTPClientError": _UNREACHABLE,
    "ResponseParserError": _UNREACHABLE,
}


@dataclass(frozen=True)
class Context:
    """What the sentences of a refusal may name. `regions` tells those that exist; empty where that
    means nothing."""

    name: str
    region: str
    kind: str = "that instance type"
    regions: Callable[[], tuple[str, ...]] = tuple
    zone: str = ""

    @property
    def where(self) -> str:
        """How an error names the place."""
        return f"box {self.name} ({self.region})" if self.name else self.region


@contextlib.contextmanager
def explained(context: Context) -> Iterator[None]:
    """Turn botocore's exceptions inside the block into errors of `remote.control.errors`."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except ClientError as error:
        raise of_code(*_code_and_message(error), context) from None
    except (BotoCoreError, ResponseParserError) as error:
        if any(name in _OF_THE_USER for name in _names(error)):
            raise credentials.explained(error) from None
        led = credentials.led_astray(error)
        why = f"{error} ({led} names that address)" if led else str(error)
        raise _error(_refusal_of(error, context), why, context) from None


def of_code(code: str, message: str, context: Context) -> CloudError:
    """The error for a code of the cloud, with or without `Server.` or `Client.` before it."""
    plain = re.sub(r"^(Server|Client)\.", "", code)
    # A request for no zone is told of the zone that was chosen.
    named = re.search(r"\b[a-z]{2}(-[a-z]+)+-\d[a-z]\b", message)
    place = replace(context, zone=named[0]) if named else context
    error = _error(
        _refusal_of_code(plain, message), f"{code}: {_without_ciphertext(message)}", place
    )
    error.code = plain
    return error


def _refusal_of_code(code: str, message: str) -> Refusal:
    if found := next(
        (refusal for known, words, refusal in _BY_MESSAGE if known == code and words in message),
        None,
    ):
        return found
    return _BY_CODE.get(code, _OTHER) if _ONLY_WITH.get(code, "") in message.lower() else _OTHER


def _code_and_message(error: Any) -> tuple[str, str]:
    details = error.response.get("Error", {})
    return str(details.get("Code", "Unknown")), str(details.get("Message", error))


def _refusal_of(error: Exception, context: Context) -> Refusal:
    names = _names(error)
    refusal = next((_BY_EXCEPTION[name] for name in names if name in _BY_EXCEPTION), _OTHER)
    # A region that does not exist has an endpoint name that does not resolve: the same exception as
    # a laptop off the network.
    if refusal is _UNREACHABLE and (known := context.regions()) and context.region not in known:
        return _REGION
    return refusal


def _names(error: Exception) -> list[str]:
    return [ancestor.__name__ for ancestor in type(error).__mro__]


def _error(refusal: Refusal, why: str, context: Context) -> CloudError:
    zone = context.zone or f"{context.region}a"
    facts = {
        "name": context.name or "NAME",
        "region": context.region,
        "kind": context.kind,
        "zone": zone,
    }
    remedy = refusal.remedy.format(**facts)
    if refusal in (_CREDENTIALS, _NO_CREDENTIALS):
        why, remedy = credentials.refused(why) or (why, remedy)
    return refusal.error(refusal.what.format(**facts), where=context.where, why=why, remedy=remedy)


def _without_ciphertext(message: str) -> str:
    return re.sub(r"\s*Encoded authorization failure message:.*", "", message, flags=re.DOTALL)
