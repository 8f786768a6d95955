"""The seed's three request models on a real FastAPI application.

What it prints for a body is what our gateway must print for the same body. It does no work: a valid body is
answered with the model's own view of it, so that the test can compare coercions too.
"""

from typing import List, Optional

from fastapi import FastAPI
from pydantic import BaseModel, EmailStr


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
