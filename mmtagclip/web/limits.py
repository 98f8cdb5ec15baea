"""What the web page's server takes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of memory, of work and of time.

    Attributes:
        upload_bytes: Size of an uploaded file.
        upload_side: Longer side of an uploaded image, in pixels.
        upload_pixels: Number of its pixels, each of which takes 12 bytes while it is decoded.
            One image is decoded at a time.
        buffered_bytes: Uploaded files that are in memory at once, in bytes.
        question_bytes: Size of a question.
        kept_side: Larger images are shrunk to this when they are uploaded, in pixels.
        encoder_side: Larger images are shrunk to this for the encoder, in pixels.
        images: Images that a visitor has in memory. A further one replaces the one that the
            visitor used longest ago.
        memory_bytes: Memory of the images of all visitors. Beyond it, images of the visitor who
            has the most are forgotten.
        names: Number of class names, and of background names, of a question.
        name_length: Characters of a name, and of the phrase in ``name = phrase``.
        prompts_length: Characters of all prompts of a question's names together; a name makes a
            prompt with each template of the model. The model's own names do not count. ViT-B/16
            reads about 3,000 characters per second on one CPU core.
        waiting: Uploads and questions that wait for the model. Further ones are refused. Beyond
            half of this number, so are those of an address that has a quarter of it waiting.
        connections: Number of open connections.
        header_seconds: Time for the headers of a request, and for a client that stops reading.
        body_seconds: Time for the body of a request.
        body_rate: Bytes per second below which a body, or the reading of an answer, is too slow,
            on average after the first ``header_seconds``.
    """

    upload_bytes: int = 20_000_000
    upload_side: int = 8192
    upload_pixels: int = 40_000_000
    buffered_bytes: int = 200_000_000
    question_bytes: int = 100_000
    kept_side: int = 1600
    encoder_side: int = 640
    images: int = 8
    memory_bytes: int = 1_000_000_000
    names: int = 200
    name_length: int = 100
    prompts_length: int = 200_000
    waiting: int = 32
    connections: int = 512
    header_seconds: float = 10
    body_seconds: float = 120
    body_rate: int = 20_000
