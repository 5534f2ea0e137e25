"""A `ServingModel` over HTTP: FastAPI and uvicorn, which the extra ``serve`` installs."""

from c2f_dgl.service.app import create_app
from c2f_dgl.service.limits import Limits
from c2f_dgl.service.queries import Precomputed
from c2f_dgl.service.server import serve

__all__ = ["Limits", "Precomputed", "create_app", "serve"]
