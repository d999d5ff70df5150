"""Which quota counts a type, and whether a box fits in."""

import pytest

from remote.control.cloud.account import quotas
from remote.control.cloud.account.quotas import ON_DEMAND, SPOT, Room, family, quota_of, room
from remote.control.cloud.ec2.offers import Offer


@pytest.mark.parametrize(
    ("instance_type", "expected"),
    [
        ("g5.2xlarge", "g"),
        ("g4dn.xlarge", "g"),
        ("g6e.2xlarge", "g"),
        ("gr6.4xlarge", "g"),
        ("vt1.3xlarge", "g"),
        ("p3.2xlarge", "p"),
        ("p4d.24xlarge", "p"),
        ("p5.48xlarge", "p5"),
        ("p5en.48xlarge", "p5"),
        ("p6-b200.48xlarge", "p5"),
        ("t3.large", "standard"),
        ("m5.large", "standard"),
        ("c7i.large", "standard"),
        ("i4i.large", "standard"),
        ("im4gn.large", "standard"),
        ("x2idn.16xlarge", "x"),
        ("f1.2xlarge", "f"),
        ("inf2.xlarge", "inf"),
        ("trn1.2xlarge", "trn"),
        ("dl1.24xlarge", "dl"),
        ("hpc7a.96xlarge", "hpc"),
        ("u-6tb1.metal", "u"),
        ("u7i-12tb.224xlarge", "u"),
        ("mac2.metal", "standard"),
    ],
)
def test_every_type_belongs_to_a_family(instance_type, expected):
    assert family(instance_type) == expected


def test_the_two_markets_have_quotas_of_their_own():
    assert (
        quota_of("g5.2xlarge", "on-demand").code == "L-DB2E81BA"
        and quota_of("g5.2xlarge", "spot").code == "L-3819A6DF"
    )
    assert not {quota.code for quota in ON_DEMAND.values()} & {
        quota.code for quota in SPOT.values()
    }
    assert quota_of("hpc7a.96xlarge", "spot") is None


@pytest.mark.parametrize(
    ("applied", "used", "lacks"), [(64, 0, 0), (64, 56, 0), (64, 57, 1), (0, 0, 8), (8, 16, 8)]
)
def test_what_is_lacking(applied, used, lacks):
    found = Room("L-DB2E81BA", "name", applied, used, 8, "on-demand", "us-west-2")
    assert found.lacks == lacks
    assert (
        f"--region us-west-2 --service-code ec2 --quota-code L-DB2E81BA --desired-value {used + 8}"
        in found.request_command
    )


def test_sizes_come_from_the_cloud_where_the_table_ends(cloud):
    sizes = quotas.vcpus({"g5.2xlarge", "trn1.2xlarge", "x1.32xlarge"}, cloud.ec2)
    assert sizes == {"g5.2xlarge": 8, "trn1.2xlarge": 8, "x1.32xlarge": 128}


def test_a_quota_that_cannot_be_asked_is_not_told(cloud):
    assert (
        room(Offer("us-east-1", None, "g5.2xlarge", "on-demand"), cloud.endpoint) is None
    )  # bare moto has no quotas of EC2
    assert room(Offer("us-east-1", None, "hpc7a.96xlarge", "spot"), cloud.endpoint) is None
