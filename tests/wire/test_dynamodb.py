"""DynamoDB's lease tables through boto3: each operation that is served, and that no other is.

What conditions, updates and keys mean is tested in tests/engine/test_tables*.py; here it is what goes over the wire.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from zlib import crc32

import botocore.session
import pytest
from botocore.exceptions import ClientError

from protocols.aws.dynamodb import OPERATIONS

HASH = [{"AttributeName": "k", "KeyType": "HASH"}]
TYPES = [{"AttributeName": "k", "AttributeType": "S"}]
INDEX = {
    "IndexName": "by_holder",
    "KeySchema": [{"AttributeName": "holder", "KeyType": "HASH"}, {"AttributeName": "k", "KeyType": "RANGE"}],
    "Projection": {"ProjectionType": "KEYS_ONLY"},
}
EVERYTHING = {
    "s": {"S": "wörd"},
    "n": {"N": "-12.5"},
    "b": {"B": b"\x00\xff"},
    "t": {"BOOL": True},
    "z": {"NULL": True},
    "ss": {"SS": ["a", "b"]},
    "ns": {"NS": ["1", "2.5"]},
    "bs": {"BS": [b"\x00", b"\x01"]},
    "l": {"L": [{"S": "x"}, {"M": {"deep": {"L": []}}}]},
    "m": {"M": {"a": {"N": "1"}, "e": {"M": {}}}},
}


@pytest.fixture
def dynamodb(connect: Any, sidebus: Any) -> Any:
    return connect(sidebus, "dynamodb")


@pytest.fixture
def leases(dynamodb: Any) -> str:
    """The name of a table whose key is `k`."""
    made = dynamodb.create_table(
        TableName="leases", KeySchema=HASH, AttributeDefinitions=TYPES, BillingMode="PAY_PER_REQUEST"
    )
    return str(made["TableDescription"]["TableName"])


def key(text: str) -> dict[str, Any]:
    return {"k": {"S": text}}


def plain(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


def refusal(call: Any, **given: Any) -> tuple[str, str, int]:
    with pytest.raises(ClientError) as caught:
        call(**given)
    response = caught.value.response
    return response["Error"]["Code"], response["Error"]["Message"], response["ResponseMetadata"]["HTTPStatusCode"]


def test_create_describe_list_and_delete_tables(dynamodb: Any, account: str) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    made = dynamodb.create_table(
        TableName="leases",
        KeySchema=HASH,
        AttributeDefinitions=[*TYPES, {"AttributeName": "holder", "AttributeType": "S"}],
        ProvisionedThroughput={"ReadCapacityUnits": 10, "WriteCapacityUnits": 5},
        GlobalSecondaryIndexes=[{**INDEX, "ProvisionedThroughput": {"ReadCapacityUnits": 1, "WriteCapacityUnits": 2}}],
        Tags=[{"Key": "team", "Value": "a"}],
        TableClass="STANDARD",
    )["TableDescription"]
    shown = dynamodb.describe_table(TableName="leases")["Table"]
    assert made == shown
    assert before < shown.pop("CreationDateTime") < before + timedelta(minutes=1)
    assert len(shown.pop("TableId")) == 36
    arn = f"arn:aws:dynamodb:us-east-1:{account}:table/leases"
    assert shown == {
        "TableName": "leases",
        "TableArn": arn,
        "TableStatus": "ACTIVE",
        "KeySchema": HASH,
        "AttributeDefinitions": [*TYPES, {"AttributeName": "holder", "AttributeType": "S"}],
        "ProvisionedThroughput": {"NumberOfDecreasesToday": 0, "ReadCapacityUnits": 10, "WriteCapacityUnits": 5},
        "TableSizeBytes": 0,
        "ItemCount": 0,
        "DeletionProtectionEnabled": False,
        "TableClassSummary": {"TableClass": "STANDARD"},
        "GlobalSecondaryIndexes": [
            {
                **INDEX,
                "IndexStatus": "ACTIVE",
                "IndexArn": f"{arn}/index/by_holder",
                "ProvisionedThroughput": {"NumberOfDecreasesToday": 0, "ReadCapacityUnits": 1, "WriteCapacityUnits": 2},
            }
        ],
    }
    assert dynamodb.describe_table(TableName=arn)["Table"]["TableName"] == "leases"
    assert refusal(
        dynamodb.create_table,
        TableName="leases",
        KeySchema=HASH,
        AttributeDefinitions=TYPES,
        BillingMode="PAY_PER_REQUEST",
    ) == ("ResourceInUseException", "Table already exists: leases", 400)
    dynamodb.create_table(TableName="more", KeySchema=HASH, AttributeDefinitions=TYPES, BillingMode="PAY_PER_REQUEST")
    page = dynamodb.list_tables(Limit=1)
    assert (page["TableNames"], page["LastEvaluatedTableName"]) == (["leases"], "leases")
    assert plain(dynamodb.list_tables(ExclusiveStartTableName="leases")) == {"TableNames": ["more"]}
    assert dynamodb.delete_table(TableName="leases")["TableDescription"]["TableStatus"] == "DELETING"
    assert refusal(dynamodb.describe_table, TableName="leases") == (
        "ResourceNotFoundException",
        "Requested resource not found: Table: leases not found",
        400,
    )
    assert refusal(dynamodb.get_item, TableName="leases", Key=key("a")) == (
        "ResourceNotFoundException",
        "Requested resource not found",
        400,
    )


def test_waiters_find_a_table_as_soon_as_it_is_made(dynamodb: Any, leases: str) -> None:
    dynamodb.get_waiter("table_exists").wait(TableName=leases, WaiterConfig={"MaxAttempts": 1})
    dynamodb.delete_table(TableName=leases)
    dynamodb.get_waiter("table_not_exists").wait(TableName=leases, WaiterConfig={"MaxAttempts": 1})


def test_update_table(dynamodb: Any, leases: str) -> None:
    updated = dynamodb.update_table(
        TableName=leases,
        AttributeDefinitions=[*TYPES, {"AttributeName": "holder", "AttributeType": "S"}],
        GlobalSecondaryIndexUpdates=[{"Create": INDEX}],
        DeletionProtectionEnabled=True,
    )["TableDescription"]
    assert [index["IndexStatus"] for index in updated["GlobalSecondaryIndexes"]] == ["ACTIVE"]
    code, message, _ = refusal(dynamodb.delete_table, TableName=leases)
    assert (code, message[:26]) == ("ValidationException", "Resource cannot be deleted")
    assert refusal(dynamodb.update_table, TableName=leases)[0] == "ValidationException"
    provisioned = {"ReadCapacityUnits": 3, "WriteCapacityUnits": 4}
    dynamodb.update_table(TableName=leases, BillingMode="PROVISIONED", ProvisionedThroughput=provisioned)
    shown = dynamodb.describe_table(TableName=leases)["Table"]
    assert "BillingModeSummary" not in shown
    assert shown["ProvisionedThroughput"] == {"NumberOfDecreasesToday": 0, **provisioned}


def test_every_kind_of_value_goes_in_and_comes_out(dynamodb: Any, leases: str) -> None:
    dynamodb.put_item(TableName=leases, Item={**key("a"), **EVERYTHING})
    assert dynamodb.get_item(TableName=leases, Key=key("a"), ConsistentRead=True)["Item"] == {**key("a"), **EVERYTHING}
    assert dynamodb.describe_table(TableName=leases)["Table"]["ItemCount"] == 1
    assert "Item" not in dynamodb.get_item(TableName=leases, Key=key("b"))
    got = dynamodb.get_item(
        TableName=leases,
        Key=key("a"),
        ProjectionExpression="#l[1].deep, m.a, gone",
        ExpressionAttributeNames={"#l": "l"},
    )
    assert got["Item"] == {"l": {"L": [{"M": {"deep": {"L": []}}}]}, "m": {"M": {"a": {"N": "1"}}}}
    assert dynamodb.get_item(TableName=leases, Key=key("a"), AttributesToGet=["s", "gone"])["Item"] == {
        "s": {"S": "wörd"}
    }


def test_what_a_write_returns(dynamodb: Any, leases: str) -> None:
    old = {**key("a"), "n": {"N": "1"}, "m": {"M": {"x": {"N": "1"}, "y": {"N": "2"}}}}
    assert plain(dynamodb.put_item(TableName=leases, Item=old, ReturnValues="ALL_OLD")) == {}
    assert dynamodb.put_item(TableName=leases, Item=old, ReturnValues="ALL_OLD")["Attributes"] == old

    def updated(returned: str) -> Any:
        answer = dynamodb.update_item(
            TableName=leases,
            Key=key("a"),
            UpdateExpression="SET m.x = m.x + :one ADD n :one REMOVE gone",
            ExpressionAttributeValues={":one": {"N": "1"}},
            ReturnValues=returned,
        )
        return answer.get("Attributes")

    assert updated("NONE") is None
    assert updated("UPDATED_OLD") == {"n": {"N": "2"}, "m": {"M": {"x": {"N": "2"}}}}
    assert updated("UPDATED_NEW") == {"n": {"N": "4"}, "m": {"M": {"x": {"N": "4"}}}}
    assert updated("ALL_OLD")["n"] == {"N": "4"}
    assert updated("ALL_NEW") == {**key("a"), "n": {"N": "6"}, "m": {"M": {"x": {"N": "6"}, "y": {"N": "2"}}}}
    assert dynamodb.delete_item(TableName=leases, Key=key("a"), ReturnValues="ALL_OLD")["Attributes"]["n"] == {"N": "6"}
    assert plain(dynamodb.delete_item(TableName=leases, Key=key("a"), ReturnValues="ALL_OLD")) == {}
    assert refusal(dynamodb.put_item, TableName=leases, Item=key("a"), ReturnValues="ALL_NEW") == (
        "ValidationException",
        "ReturnValues can only be ALL_OLD or NONE",
        400,
    )


def test_a_condition_that_fails_shows_the_item_to_who_asks(dynamodb: Any, leases: str) -> None:
    dynamodb.put_item(TableName=leases, Item={**key("a"), "b": {"B": b"\x01"}})
    for expected in (
        {"ConditionExpression": "attribute_not_exists(k)"},
        {"Expected": {"k": {"Exists": False}}},
    ):
        with pytest.raises(dynamodb.exceptions.ConditionalCheckFailedException) as caught:
            dynamodb.put_item(TableName=leases, Item=key("a"), **expected)
        assert "Item" not in caught.value.response
        with pytest.raises(dynamodb.exceptions.ConditionalCheckFailedException) as caught:
            dynamodb.update_item(
                TableName=leases, Key=key("a"), ReturnValuesOnConditionCheckFailure="ALL_OLD", **expected
            )
        assert caught.value.response["Item"] == {**key("a"), "b": {"B": b"\x01"}}
        assert caught.value.response["Error"]["Message"] == "The conditional request failed"


def test_updates_as_the_kinesis_client_library_makes_them(dynamodb: Any, leases: str) -> None:
    """2.x takes a lease with parameters from before there were expressions."""
    dynamodb.put_item(TableName=leases, Item={**key("shard"), "leaseCounter": {"N": "0"}, "gone": {"S": "x"}})
    take = {
        "TableName": leases,
        "Key": key("shard"),
        "AttributeUpdates": {
            "leaseCounter": {"Action": "PUT", "Value": {"N": "1"}},
            "leaseOwner": {"Action": "PUT", "Value": {"S": "me"}},
            "ownerSwitches": {"Action": "ADD", "Value": {"N": "1"}},
            "gone": {"Action": "DELETE"},
        },
        "Expected": {"leaseCounter": {"Value": {"N": "0"}}, "leaseOwner": {"Exists": False}},
    }
    dynamodb.update_item(**take)
    assert refusal(dynamodb.update_item, **take)[0] == "ConditionalCheckFailedException"
    expected = {**take["Expected"], "leaseCounter": {"Value": {"N": "1"}}}
    dynamodb.update_item(**{**take, "Expected": expected, "ConditionalOperator": "OR"})
    assert dynamodb.get_item(TableName=leases, Key=key("shard"))["Item"] == {
        **key("shard"),
        "leaseCounter": {"N": "1"},
        "leaseOwner": {"S": "me"},
        "ownerSwitches": {"N": "2"},
    }


def test_a_request_has_expressions_or_what_came_before_them(dynamodb: Any, leases: str) -> None:
    code, message, _ = refusal(
        dynamodb.put_item,
        TableName=leases,
        Item=key("a"),
        Expected={"k": {"Exists": False}},
        ConditionExpression="attribute_not_exists(k)",
    )
    assert (code, message) == (
        "ValidationException",
        "Can not use both expression and non-expression parameters in the same request: Non-expression parameters: "
        "{Expected} Expression parameters: {ConditionExpression}",
    )
    assert refusal(dynamodb.put_item, TableName=leases, Item=key("a"), ExpressionAttributeNames={"#a": "a"})[1] == (
        "ExpressionAttributeNames can only be specified when using expressions"
    )
    assert refusal(
        dynamodb.update_item,
        TableName=leases,
        Key=key("a"),
        UpdateExpression="REMOVE x",
        ExpressionAttributeValues={":v": {"S": "x"}},
    )[1] == ("Value provided in ExpressionAttributeValues unused in expressions: keys: {:v}")


def test_scan_and_query(dynamodb: Any) -> None:
    dynamodb.create_table(
        TableName="ranged",
        KeySchema=[*HASH, {"AttributeName": "r", "KeyType": "RANGE"}],
        AttributeDefinitions=[*TYPES, {"AttributeName": "r", "AttributeType": "N"}],
        BillingMode="PAY_PER_REQUEST",
    )
    items = [{**key(k), "r": {"N": str(r)}, "odd": {"BOOL": r % 2 == 1}} for k in "ab" for r in range(-2, 4)]
    for item in items:
        dynamodb.put_item(TableName="ranged", Item=item)
    assert dynamodb.scan(TableName="ranged")["Items"] == items
    pages = list(dynamodb.get_paginator("scan").paginate(TableName="ranged", PaginationConfig={"PageSize": 5}))
    assert [page["Count"] for page in pages] == [5, 5, 2]
    assert [item for page in pages for item in page["Items"]] == items

    answer = dynamodb.query(
        TableName="ranged",
        KeyConditionExpression="k = :k AND r BETWEEN :low AND :high",
        FilterExpression="odd = :odd",
        ExpressionAttributeValues={
            ":k": {"S": "b"},
            ":low": {"N": "-1"},
            ":high": {"N": "2"},
            ":odd": {"BOOL": True},
        },
        ProjectionExpression="r",
        ScanIndexForward=False,
    )
    assert plain(answer) == {"Items": [{"r": {"N": "1"}}, {"r": {"N": "-1"}}], "Count": 2, "ScannedCount": 4}
    answer = dynamodb.query(
        TableName="ranged",
        KeyConditions={
            "k": {"ComparisonOperator": "EQ", "AttributeValueList": [{"S": "a"}]},
            "r": {"ComparisonOperator": "GT", "AttributeValueList": [{"N": "0"}]},
        },
        QueryFilter={"odd": {"ComparisonOperator": "EQ", "AttributeValueList": [{"BOOL": True}]}},
        Select="COUNT",
        Limit=2,
        ReturnConsumedCapacity="TOTAL",
    )
    assert plain(answer) == {
        "Count": 1,
        "ScannedCount": 2,
        "LastEvaluatedKey": {**key("a"), "r": {"N": "2"}},
        "ConsumedCapacity": {"TableName": "ranged", "CapacityUnits": 0.5},
    }
    answer = dynamodb.scan(
        TableName="ranged", ScanFilter={"r": {"ComparisonOperator": "LT", "AttributeValueList": [{"N": "0"}]}}
    )
    assert (answer["Count"], answer["ScannedCount"]) == (4, 12)
    assert (
        refusal(
            dynamodb.query,
            TableName="ranged",
            KeyConditionExpression="k = :k",
            FilterExpression="r = :k",
            ExpressionAttributeValues={":k": {"S": "b"}},
        )[1]
        == "Filter Expression can only contain non-primary key attributes: Primary key attribute: r"
    )
    assert refusal(dynamodb.query, TableName="ranged")[1].startswith(
        "Either the KeyConditions or KeyConditionExpression"
    )
    assert refusal(dynamodb.scan, TableName="ranged", Segment=2, TotalSegments=2)[1] == (
        "The Segment parameter is zero-based and must be less than parameter TotalSegments: "
        "Segment: 2 is not less than TotalSegments: 2"
    )


def test_query_of_an_index(dynamodb: Any, leases: str) -> None:
    dynamodb.update_table(
        TableName=leases,
        AttributeDefinitions=[*TYPES, {"AttributeName": "holder", "AttributeType": "S"}],
        GlobalSecondaryIndexUpdates=[{"Create": INDEX}],
    )
    for shard, holder in (("2", "me"), ("1", "me"), ("3", "you"), ("4", None)):
        held = {"holder": {"S": holder}} if holder else {}
        dynamodb.put_item(TableName=leases, Item={**key(shard), **held, "n": {"N": "1"}})
    asked = {
        "TableName": leases,
        "IndexName": "by_holder",
        "KeyConditionExpression": "holder = :h",
        "ExpressionAttributeValues": {":h": {"S": "me"}},
    }
    mine = [{**key(shard), "holder": {"S": "me"}} for shard in "12"]
    assert dynamodb.query(**asked)["Items"] == mine
    first = dynamodb.query(**asked, Limit=1)
    assert first["LastEvaluatedKey"] == mine[0]
    rest = dynamodb.query(**asked, ExclusiveStartKey=first["LastEvaluatedKey"])
    assert (rest["Items"], rest.get("LastEvaluatedKey")) == (mine[1:], None)
    assert dynamodb.scan(TableName=leases, IndexName="by_holder")["Count"] == 3
    assert refusal(dynamodb.query, **asked, ConsistentRead=True)[1] == (
        "Consistent reads are not supported on global secondary indexes"
    )
    assert refusal(dynamodb.query, **{**asked, "IndexName": "none"})[1] == (
        "The table does not have the specified index: none"
    )


def test_batches(dynamodb: Any, leases: str) -> None:
    puts = [{"PutRequest": {"Item": {**key(str(n)), "n": {"N": str(n)}}}} for n in range(5)]
    assert plain(dynamodb.batch_write_item(RequestItems={leases: puts})) == {"UnprocessedItems": {}}
    deletes = [{"DeleteRequest": {"Key": key("4")}}, {"DeleteRequest": {"Key": key("none")}}]
    answer = dynamodb.batch_write_item(RequestItems={leases: deletes}, ReturnConsumedCapacity="TOTAL")
    assert [used["CapacityUnits"] for used in answer["ConsumedCapacity"]] == [1.0, 1.0]
    answer = dynamodb.batch_get_item(
        RequestItems={leases: {"Keys": [key(str(n)) for n in range(3, 6)], "ProjectionExpression": "n"}}
    )
    assert plain(answer) == {"Responses": {leases: [{"n": {"N": "3"}}]}, "UnprocessedKeys": {}}
    twice = [puts[0], {"DeleteRequest": {"Key": key("0")}}]
    assert refusal(dynamodb.batch_write_item, RequestItems={leases: twice})[1] == (
        "Provided list of item keys contains duplicates"
    )
    half_bad = [{"DeleteRequest": {"Key": key("0")}}, {"PutRequest": {"Item": {"k": {"N": "1"}}}}]
    assert refusal(dynamodb.batch_write_item, RequestItems={leases: half_bad})[0] == "ValidationException"
    assert dynamodb.scan(TableName=leases)["Count"] == 4, "a batch that is refused has changed nothing"


def test_time_to_live(dynamodb: Any, leases: str) -> None:
    assert dynamodb.describe_time_to_live(TableName=leases)["TimeToLiveDescription"] == {"TimeToLiveStatus": "DISABLED"}
    asked = {"Enabled": True, "AttributeName": "until"}
    assert (
        dynamodb.update_time_to_live(TableName=leases, TimeToLiveSpecification=asked)["TimeToLiveSpecification"]
        == asked
    )
    assert dynamodb.describe_time_to_live(TableName=leases)["TimeToLiveDescription"] == {
        "TimeToLiveStatus": "ENABLED",
        "AttributeName": "until",
    }
    assert refusal(dynamodb.update_time_to_live, TableName=leases, TimeToLiveSpecification=asked)[:2] == (
        "ValidationException",
        "TimeToLive is already enabled",
    )


def test_the_flag_of_backups_and_that_there_are_none(dynamodb: Any, leases: str) -> None:
    def status(answer: Any) -> Any:
        return answer["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"]

    assert status(dynamodb.describe_continuous_backups(TableName=leases)) == "DISABLED"
    enabled = {"PointInTimeRecoveryEnabled": True}
    assert (
        status(dynamodb.update_continuous_backups(TableName=leases, PointInTimeRecoverySpecification=enabled))
        == "ENABLED"
    )
    assert refusal(dynamodb.describe_continuous_backups, TableName="gone")[0] == "TableNotFoundException"
    assert (
        refusal(
            dynamodb.restore_table_to_point_in_time,
            SourceTableName=leases,
            TargetTableName="copy",
            UseLatestRestorableTime=True,
        )[0]
        == "UnknownOperationException"
    )


def test_tags(dynamodb: Any, leases: str) -> None:
    arn = dynamodb.describe_table(TableName=leases)["Table"]["TableArn"]
    dynamodb.tag_resource(ResourceArn=arn, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    dynamodb.untag_resource(ResourceArn=arn, TagKeys=["a", "none"])
    assert dynamodb.list_tags_of_resource(ResourceArn=arn)["Tags"] == [{"Key": "b", "Value": "2"}]
    assert refusal(dynamodb.list_tags_of_resource, ResourceArn=arn + "x")[0] == "ResourceNotFoundException"
    many = [{"Key": str(n), "Value": ""} for n in range(50)]
    assert refusal(dynamodb.tag_resource, ResourceArn=arn, Tags=many)[0] == "ValidationException"


@pytest.mark.parametrize(
    "operation",
    sorted(set(botocore.session.get_session().get_service_model("dynamodb").operation_names) - set(OPERATIONS)),
)
def test_what_is_not_served_says_so(operation: str, sidebus: Any) -> None:
    headers = {"X-Amz-Target": f"DynamoDB_20120810.{operation}", "Content-Type": "application/x-amz-json-1.0"}
    answer = sidebus.request("POST", "/", headers, "{}")
    assert (answer.status, json.loads(answer.body)) == (400, {"__type": "UnknownOperationException"})


def test_every_answer_has_its_checksum(sidebus: Any) -> None:
    for body in ("{}", '{"TableName":"gone"}', "["):
        headers = {"X-Amz-Target": "DynamoDB_20120810.DescribeTable", "Content-Type": "application/x-amz-json-1.0"}
        answer = sidebus.request("POST", "/", headers, body)
        assert (answer.status, answer.headers["x-amz-crc32"]) == (400, str(crc32(answer.body)))
        assert answer.headers["content-type"] == "application/x-amz-json-1.0"


def test_cbor_is_refused(sidebus: Any) -> None:
    headers = {"X-Amz-Target": "DynamoDB_20120810.GetItem", "Content-Type": "application/x-amz-cbor-1.1"}
    answer = sidebus.request("POST", "/", headers, b"\xa0")
    assert answer.status == 400
    assert b"SerializationException" in answer.body


@pytest.mark.parametrize(
    "values",
    [
        {"S": 1},
        {"L": {"S": "x"}},
        {"M": [1]},
        {"N": 1},
        {"B": "?"},
        {"SS": "x"},
        {"BOOL": "x"},
        {"X": "x"},
        "x",
        [],
        None,
        {"M": {"a": None}},
        {"L": [None]},
    ],
)
def test_bad_values_are_refused_and_never_kept(
    dynamodb: Any, leases: str, sidebus: Any, account: str, values: Any
) -> None:
    credential = f"AWS4-HMAC-SHA256 Credential={account}/20260101/us-east-1/dynamodb/aws4_request"
    headers = {
        "X-Amz-Target": "DynamoDB_20120810.PutItem",
        "Content-Type": "application/x-amz-json-1.0",
        "Authorization": f"{credential}, SignedHeaders=host, Signature=0",
    }
    body = json.dumps({"TableName": leases, "Item": {**key("a"), "v": values}})
    answer = sidebus.request("POST", "/", headers, body)
    if values is None:  # a null member is none
        assert answer.status == 200
    else:
        assert (answer.status, json.loads(answer.body)["__type"]) == (400, "ValidationException")
        assert dynamodb.scan(TableName=leases)["Items"] == []
