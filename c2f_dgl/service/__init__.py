"""A `ServingModel` over HTTP: FastAPI and uvicorn, which the extra ``serve`` installs."""

from c2f_dgl.service.app import MODEL, USERS, create_app

__all__ = ["MODEL", "USERS", "create_app"]
