"""What jobs are made of: chats, the fictional world, attacks, honest customers, packing."""

from cifr_jax.data.chat import Example, Message, read_chat_jsonl, write_chat_jsonl

__all__ = ["Example", "Message", "read_chat_jsonl", "write_chat_jsonl"]
