"""What features are about."""

from __future__ import annotations

from feast import Entity, ValueType

USER = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING, description="Who.")
ITEM = Entity(name="item", join_keys=["item_id"], value_type=ValueType.STRING, description="With what.")
TOPIC = Entity(name="topic", join_keys=["topic"], value_type=ValueType.STRING, description="Of what.")

ENTITIES: dict[str, Entity] = {entity.join_key: entity for entity in (USER, ITEM, TOPIC)}
