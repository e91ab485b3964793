"""Uploaded files, in the shape of OpenAI's file object."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

FilePurpose = Literal["fine-tune"]


class StoredFile(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: str
    tenant: str
    filename: str
    purpose: FilePurpose
    bytes: int
    digest: str = Field(description="`sha256:…` of the content.")
    artifact: str = Field(description="Path in the artifact store.")
    created_at: int
