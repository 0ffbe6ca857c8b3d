"""Publishing: files on this machine → a folder as it will be published → one commit on a hub."""

from gradiend.hub._publish import Published as Published
from gradiend.hub._publish import push_to_hub as push_to_hub
from gradiend.util._imports import public_names

__all__ = list(public_names(__name__))
