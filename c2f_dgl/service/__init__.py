"""A `ServingModel` over HTTP: FastAPI and uvicorn, which the extra ``serve`` installs."""

from c2f_dgl.service.app import create_app

__all__ = ["create_app"]
