"""References of words, found in a folder of unlabelled images by a job that can be resumed."""

from ..frameworks import segmentation  # noqa: F401

# isort: split
import base64
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..clip import Vocabulary, load_templates
from ..files import write_whole
from ..jobs.description import Source, digest, file_stamp, flatten
from ..jobs.identity import identity
from ..jobs.runner import (
    Job,
    Manifest,
    only_clean_up_is_left,
    read_results,
    remove_results,
    unfinished,
)
from ..models import ReferenceEncoder
from ..records import ImageRecord
from ..regions.bank import nearest, source_identity
from ..regions.references import references_content
from ..version import __version__
from .call import NameSource, typed_names
from .embedding import Embedder, EmbeddingFile, embed_images
from .inputs import ImageInput, list_images

ENDING = '.safetensors'


def embeddings_beside(out: Path) -> Path:
    """The file of the images' embeddings, if no other is named."""
    return out.with_name(f'{out.stem}.embeddings{ENDING}')


def build_references(
    model: ReferenceEncoder,
    inputs: Any,
    out: str | Path,
    classes: NameSource,
    *,
    embeddings: str | Path | None = None,
    max_side: int | None = None,
    on_error: str = 'skip',
    replace: bool = False,
    show_progress: bool = True,
) -> dict[str, str]:
    """Write a reference of each word to a file that appears when it is complete.

    First the images are embedded, in a file that stays and serves other words, too; then one word
    follows the other. Until the end, the references are in the folder ``OUT.unfinished``; started
    again with the same arguments, a run that was stopped resumes.

    Args:
        model: What finds the references; see :func:`mmtagclip.apis.load_reference_encoder`.
        inputs: See :func:`mmtagclip.apis.list_images`; files only.
        out: The file, ``.safetensors``.
        classes: The classes; each synonym is a separate word.
        embeddings: File of the images' embeddings (:func:`mmtagclip.apis.embed_images`); made if it
            is not there. Default: ``NAME.embeddings.safetensors`` for ``NAME.safetensors``.
        max_side: Of the images whose embeddings are made; see :class:`mmtagclip.apis.Embedder`.
        on_error: ``'raise'``, or ``'skip'`` images that can't be read.
        replace: Whether to replace a file that is there.
        show_progress: Whether to show progress bars.

    Returns:
        For each image that could not be read, by its path, the reason.

    Raises:
        FileExistsError: The file is there.
        FileNotFoundError: There is no image.
        TypeError: An image that is not a file.
        ValueError: A word finds no image; the embeddings are of other images, of another encoder or
            of another ``max_side``; images have changed since; another run was begun there; or
            ``on_error='raise'`` and an image can't be read.
    """
    out = Path(out)
    if out.suffix != ENDING:
        raise ValueError(f'references are written to a {ENDING} file, not to {out}')
    if on_error not in ('raise', 'skip'):
        raise ValueError(f"on_error must be 'raise' or 'skip', not {on_error!r}")
    if out.exists() and not replace and not only_clean_up_is_left(out):
        raise FileExistsError(f'{out} exists already; replace it, or name another file')
    words = list(dict.fromkeys(word for one in typed_names(classes).phrases for word in one))
    images = list_images(inputs)
    path = embeddings_beside(out) if embeddings is None else Path(embeddings)
    embedder = Embedder(model.encoder, max_side=max_side)
    if not path.exists():
        embed_images(embedder, images, path, on_error=on_error, show_progress=show_progress)
    file = EmbeddingFile(path)
    file.check(embedder)
    if file.facts['max_side'] != max_side:
        raise ValueError(
            f'{path} has embeddings made with max_side={file.facts["max_side"]}, not {max_side}: '
            'remove it, or name another file with --embeddings'
        )
    if 2 * model.count >= len(images):
        warnings.warn(
            f'a word may have {model.count} of only {len(images)} images, so words share most of '
            'them: add images, or set a lower count',
            stacklevel=2,
        )
    search = _Search(model, file, images, words)
    job = Job(
        unfinished(out),
        Manifest('references', tuple(words), flatten(search.description())),
        search.sources(),
        replace=replace,
    )
    search.run(job, on_error, show_progress)
    records = {record.image: record for record in read_results(job.root)[1]}
    errors = dict(file.facts['errors'])
    for record in records.values():  # also those of an earlier process
        errors |= record.more.get('errors', {})
    facts = {
        'version': __version__,
        'words': words,
        'encoder': model.encoder.identity,
        'source': source_identity(model.source),
        'settings': search.settings,
        'images': {word: records[word].more['images'] for word in words},
        'errors': errors,
    }
    references = torch.stack([_decoded(records[word]) for word in words])
    levels = torch.tensor([records[word].more['levels'] for word in words])
    write_whole(out, references_content(facts, references, levels))
    remove_results(job.root)
    return errors


class _Search:
    """The words, their images, and what is made of them."""

    def __init__(
        self,
        model: ReferenceEncoder,
        file: EmbeddingFile,
        images: Sequence[ImageInput],
        words: Sequence[str],
    ) -> None:
        self.model = model
        # Those that others need come first.
        self.words = list(dict.fromkeys([*model.contexts, *words]))
        names = Vocabulary(tuple((word,) for word in self.words))
        whole = model.encoder.encode_names(names, model.templates)
        self.text = model.encoder.patch_text(whole)
        self.images = _images_of(file, images, whole, self.words, model)

    @property
    def settings(self) -> dict[str, Any]:
        """How the references are found, as JSON values."""
        model = self.model
        return {
            'count': model.count,
            'contexts': list(model.contexts),
            'min_cosine': model.min_cosine,
            'templates': list(load_templates(model.templates)),
            'side': model.side,
            'published_slices': model.published_slices,
        }

    def description(self) -> dict[str, Any]:
        """What decides the references, besides the images."""
        return {'model': identity(self.model), 'text': identity(self.text)}

    def sources(self) -> list[Source]:
        """Each word with a digest of its images, and of those of the contexts before it."""
        found: list[Source] = []
        before: list[Any] = []
        for word in self.words:
            own = [[one.name, file_stamp(str(one.source))] for one in self.images[word]]
            found.append(Source(word, digest([*before, own])))
            if word in self.model.contexts:
                before.append(own)
        return found

    def run(self, job: Job, on_error: str, show_progress: bool) -> None:
        """Find the references that are missing.

        Raises:
            FileNotFoundError: Results were removed meanwhile.
            ValueError: No image of a word can be read, or one and it is not to be skipped.
        """
        there = job.results()
        contexts = {word: _decoded(there[word]) for word in self.model.contexts if word in there}
        left = [index for index in range(len(self.words)) if index not in job.done]
        try:
            for index in tqdm(left, unit='word', disable=None if show_progress else True):
                word = self.words[index]
                # Only those before it: later ones may be there if its own record was damaged.
                before = [contexts[one] for one in self.words[:index] if one in contexts]
                record, reference = self._record(index, before, on_error)
                if word in self.model.contexts:
                    contexts[word] = reference
                job.add(index, record)
        finally:
            job.commit()
        if not job.finish():
            raise FileNotFoundError(f'results in {job.root} were removed meanwhile; start again')

    def _record(
        self, index: int, contexts: Sequence[Tensor], on_error: str
    ) -> tuple[ImageRecord, Tensor]:
        """The record of a word, and its reference ``(C',)``."""
        word = self.words[index]
        places, used = [], []
        errors: dict[str, str] = {}
        for image in self.images[word]:
            name = _stored(image)
            try:
                places.append(self.model.places(image.read()))
                used.append(name)
            except (ValueError, OSError) as error:
                if on_error == 'raise':
                    raise
                errors[name] = str(error)
        if not places:
            reason = next(iter(errors.values()))
            raise ValueError(f'not one image of the word {word!r} can be read: {reason}')
        device = places[0][0].device
        others = torch.stack([one.to(device) for one in contexts]) if contexts else None
        reference, levels = self.model.reference(places, self.text[index].to(device), others)
        text = base64.b64encode(reference.cpu().numpy().astype('<f4').tobytes()).decode()
        more = {'reference': text, 'levels': levels.tolist(), 'images': used, 'errors': errors}
        return ImageRecord(word, more=more), reference


def _images_of(
    file: EmbeddingFile,
    images: Sequence[ImageInput],
    text: Tensor,
    words: Sequence[str],
    model: ReferenceEncoder,
) -> Mapping[str, list[ImageInput]]:
    """The images of each word, the most alike first.

    Raises:
        TypeError: An image that is not a file.
        ValueError: The embeddings are of other images, or a word finds none.
    """
    by_name = {}
    for image in images:
        if not isinstance(image.source, Path):
            raise TypeError(f'{image.name} is not a file, so a run over it could not resume')
        by_name[_stored(image)] = image
    names: list[str] = []

    def vectors() -> Iterator[Tensor]:
        for some, embeddings in file.batches():
            names.extend(some)
            yield torch.from_numpy(np.array(embeddings))

    cosines, rows = nearest(text, vectors(), model.count)
    different = by_name.keys() ^ {*names, *file.facts['errors']}
    if different:
        raise ValueError(
            f'{file.path} has embeddings of other images than those given, such as '
            f'{min(different)}: name another file with --embeddings, or remove this one'
        )
    file.check_files(images)
    found = {
        word: [
            by_name[names[row]]
            for row, cosine in zip(places, values, strict=True)
            if cosine >= model.min_cosine
        ]
        for word, places, values in zip(words, rows.tolist(), cosines.tolist(), strict=True)
    }
    without = [
        f'{word!r} ({"of model.contexts, " * (word in model.contexts)}best cosine {values[0]:.3f})'
        for word, values in zip(words, cosines.tolist(), strict=True)
        if not found[word]
    ]
    if without:
        raise ValueError(
            f'no image has a cosine of {model.min_cosine} or more with {", ".join(without)}: add '
            'images that show it, leave the word out, or set a lower min_cosine'
        )
    return found


def _stored(image: ImageInput) -> str:
    """An image's name as files have it."""
    return image.name.encode(errors='backslashreplace').decode()


def _decoded(record: ImageRecord) -> Tensor:
    return torch.frombuffer(
        bytearray(base64.b64decode(record.more['reference'])), dtype=torch.float32
    )
