"""The seed's three request models on a real FastAPI application.

What it prints for a body is what our gateway must print for the same body. It does no work: a valid body is
answered with the model's own view of it, so that the test can compare coercions too.

Under /limited stand the same models with the limits that are ours, as FastAPI would state them. They have routes of
their own because pydantic checks shape and limits together, and the gateway the limits only if the shape is right.
"""

from typing import List, Literal, Optional

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, EmailStr, Field


class InputMessage(BaseModel):
    role: str
    content: str


class ChatCompletionsRequest(BaseModel):
    model: str
    messages: List[InputMessage]
    max_tokens: int
    temperature: float
    request_timeout_time: Optional[int] = 240


class JobRequest(BaseModel):
    model: str
    messages: List[InputMessage]
    max_output: int
    temperature: float


class SignupRequest(BaseModel):
    email: EmailStr


class LimitedMessage(BaseModel):
    role: Literal["system", "user", "assistant"]
    content: str


class Verification(BaseModel):
    model_config = ConfigDict(extra="forbid")
    replicas: Literal[1, 3] = 3
    quorum: Literal[2, 3] = 2


class Limited(BaseModel):
    model: str
    messages: List[LimitedMessage] = Field(min_length=1)
    temperature: float = Field(ge=0, le=2)
    seed: Optional[int] = Field(None, ge=-(2**63), le=2**63 - 1)
    verification: Verification = Verification()


class LimitedChat(Limited):
    max_tokens: int = Field(ge=1, le=8192)


class LimitedJob(Limited):
    max_output: int = Field(ge=1, le=8192)


app = FastAPI()


@app.post("/chat/completions")
def chat_completions(request: ChatCompletionsRequest):
    return request


@app.post("/submit_job")
def submit_job(request: JobRequest):
    return request


@app.post("/signup_user")
def signup(request: SignupRequest):
    return request


@app.post("/limited/chat/completions")
def limited_chat(request: LimitedChat):
    return request


@app.post("/limited/submit_job")
def limited_job(request: LimitedJob):
    return request
