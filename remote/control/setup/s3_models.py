"""Base models in an S3 bucket: listed with the laptop's credentials, fetched by the box over
short-lived presigned addresses."""

import base64
from typing import Any

from remote.contract.artifacts.base_models import ModelFetch, ModelFile, is_wanted, lacks
from remote.contract.files import digest
from remote.control.cloud.account import refusals
from remote.control.cloud.account.endpoint import Endpoint
from remote.control.config.base_model import ModelSpec
from remote.control.errors import NotFound

VALID_SECONDS = 6 * 3600
"""How long the box may fetch. Credentials that end earlier, as of SSO, end the addresses too."""


def resolve(spec: ModelSpec, endpoint: Endpoint, box_name: str) -> ModelFetch:
    """The files under the prefix, each with a presigned address. Raises NotFound or a CloudError.

    The revision is the digest of what the bucket says about the files: another upload is another
    revision.
    """
    where = f"s3://{spec.bucket}/{spec.prefix}"
    with refusals.explained(refusals.Context(box_name, endpoint.region, regions=endpoint.regions)):
        s3 = _in_region_of(spec.bucket, endpoint)
        found = {key.removeprefix(spec.prefix): key for key in _keys(s3, spec)}
        if missing := lacks(path for path in found if is_wanted(path)):
            remedy = "correct the line under `models:` in inventory.yaml, or upload the model there"
            raise NotFound(
                "there is no base model in the bucket",
                where=where,
                why=f"there is no {missing}",
                remedy=remedy,
            )
        files = tuple(
            _file(s3, spec.bucket, path, key)
            for path, key in sorted(found.items())
            if is_wanted(path)
        )
    told = [[file.path, file.size, file.sha256, file.md5] for file in files]
    return ModelFetch(spec.name, spec.text, where, digest.of_value(told), files)


def _in_region_of(bucket: str, endpoint: Endpoint) -> Any:
    """A signature holds for the bucket's own region alone."""
    from botocore.exceptions import ClientError

    s3 = endpoint.client("s3")
    try:
        region = s3.head_bucket(Bucket=bucket).get("BucketRegion")
    except ClientError as error:
        region = (
            error.response.get("ResponseMetadata", {})
            .get("HTTPHeaders", {})
            .get("x-amz-bucket-region")
        )
        if not region:
            raise
    return endpoint.in_region(region or endpoint.region).client("s3")


def _keys(s3: Any, spec: ModelSpec) -> list[str]:
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket=spec.bucket, Prefix=spec.prefix, Delimiter="/"
    )
    return [item["Key"] for page in pages for item in page.get("Contents", ())]


def _file(s3: Any, bucket: str, path: str, key: str) -> ModelFile:
    head = s3.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    url = s3.generate_presigned_url(
        "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=VALID_SECONDS
    )
    sha256 = _sha256(head)
    return ModelFile(
        path, int(head["ContentLength"]), url, sha256, md5="" if sha256 else _md5(head)
    )


def _sha256(head: dict[str, Any]) -> str:
    """What the uploader had S3 check; one of parts is no digest of the whole."""
    told = head.get("ChecksumSHA256", "")
    return (
        base64.b64decode(told).hex()
        if told and "-" not in told and head.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT"
        else ""
    )


def _md5(head: dict[str, Any]) -> str:
    """The ETag is the MD5 of what was uploaded in one piece and not encrypted with a key of KMS."""
    etag = head.get("ETag", "").strip('"')
    return "" if "-" in etag or head.get("ServerSideEncryption", "AES256") != "AES256" else etag
