"""The seed's request models on a real FastAPI application.

What it prints for a body is what our gateway must print for the same body. It does no work: a valid body is
answered with the model's own view of it, so that the test can compare coercions too.

Under /limited stand the same models with the limits that are ours, as FastAPI would state them. They have routes of
their own because pydantic checks shape and limits together, and the gateway the limits only if the shape is right.
"""

from typing import Any, Dict, List, Literal, Optional

from fastapi import FastAPI, Query
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


class NodeSecretRequest(BaseModel):
    node_id: str
    secret: str


class DailyPointsRequest(BaseModel):
    node_name: str
    last_days: int


class NodeRegistration(BaseModel):
    node_url: str
    node_version: Optional[str] = None


class NodeModel(BaseModel):
    node_url: str
    models: List[str]


class JobResult(BaseModel):
    job_id: str
    api_key: str
    model_name: str
    result: Dict[str, Any]
    status: str


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
    seed: Optional[int] = Field(None, ge=-(2**63), le=2**64 - 1)
    verification: Verification = Verification()


class LimitedChat(Limited):
    max_tokens: int = Field(ge=1, le=8192)


class LimitedJob(Limited):
    max_output: int = Field(ge=1, le=8192)


class LimitedDays(BaseModel):
    node_name: str
    last_days: int = Field(ge=1, le=365)


class LimitedModels(BaseModel):
    node_url: str
    models: List[str] = Field(max_length=64)


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


@app.post("/register_node_secret")
@app.post("/check_node_secret")
def node_secret(request: NodeSecretRequest):
    return request


@app.post("/daily_points")
def daily_points(request: DailyPointsRequest):
    return request


@app.post("/node_jobs_stats")
@app.post("/worker/register_node")
@app.post("/worker/deregister_node")
def node_registration(request: NodeRegistration):
    return request


@app.post("/worker/update_models")
def update_models(request: NodeModel):
    return request


@app.post("/worker/update_result")
def update_result(request: JobResult):
    return request


@app.get("/node_model_mapping")
def node_model_mapping(time_frame: int = Query(ge=1, le=720)):
    return time_frame


@app.post("/limited/daily_points")
def limited_days(request: LimitedDays):
    return request


@app.post("/limited/worker/update_models")
def limited_models(request: LimitedModels):
    return request
