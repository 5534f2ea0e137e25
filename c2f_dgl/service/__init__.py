"""A `ServingModel` over HTTP: FastAPI and uvicorn, which the extra ``serve`` installs."""

from c2f_dgl.service.app import MODEL, USERS, app_of_environment, create_app, set_switches

__all__ = ["MODEL", "USERS", "app_of_environment", "create_app", "set_switches"]
