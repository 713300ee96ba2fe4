"""What every object store keeps, and what the local one says when the disk does not play along."""

import errno
import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trading_pipeline.adapters.objects.local import LocalObjects
from trading_pipeline.errors import InputError, StorageError
from trading_pipeline.ports import ObjectStore

PICTURE = b"\x89PNG not really"
DIGEST = hashlib.sha256(PICTURE).hexdigest()


class ObjectStoreContract:
    """Inherit and define the fixture `store`, empty."""

    def test_bytes_come_back_under_their_sha256(self, store: ObjectStore):
        assert store.put(PICTURE, ".png") == DIGEST
        assert store.get(DIGEST) == PICTURE

    def test_the_digest_is_the_published_one_of_sha256(self, store: ObjectStore):
        # FIPS 180-2, appendix B.1
        assert store.put(b"abc", ".txt") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

    def test_putting_again_changes_nothing(self, store: ObjectStore):
        place = (store.put(PICTURE, ".png"), store.locate(DIGEST))
        assert (store.put(PICTURE, ".png"), store.locate(DIGEST)) == place

    def test_an_empty_object_is_an_object(self, store: ObjectStore):
        assert store.get(store.put(b"", ".bin")) == b""

    def test_what_was_never_put_is_absent(self, store: ObjectStore):
        for call in (store.get, store.locate):
            with pytest.raises(StorageError, match=DIGEST):
                call(DIGEST)

    @pytest.mark.parametrize("digest", ["", "abc", "../../etc/passwd", "z" * 64, DIGEST.upper(), f"{DIGEST[:-2]}/."])
    def test_what_is_no_digest_is_refused(self, store: ObjectStore, digest: str):
        with pytest.raises(InputError):
            store.get(digest)

    def test_the_place_tells_what_it_is(self, store: ObjectStore):
        store.put(PICTURE, ".png")
        assert store.locate(DIGEST).endswith(f"{DIGEST}.png")

    @pytest.mark.parametrize("suffix", ["png", "./x", ".png/../x", ".", ".p ng"])
    def test_a_suffix_cannot_lead_elsewhere(self, store: ObjectStore, suffix: str):
        with pytest.raises(InputError):
            store.put(PICTURE, suffix)

    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(content=st.binary(max_size=300))
    def test_any_bytes_come_back(self, store: ObjectStore, content: bytes):
        assert store.get(store.put(content, ".bin")) == content


class TestLocalObjects(ObjectStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> LocalObjects:
        return LocalObjects(tmp_path / "objects")

    def test_files_lie_two_folders_deep_and_nothing_is_left_beside_them(self, store: LocalObjects, tmp_path: Path):
        store.put(PICTURE, ".png")
        files = [path for path in (tmp_path / "objects").rglob("*") if path.is_file()]
        assert files == [tmp_path / "objects" / DIGEST[:2] / DIGEST[2:4] / f"{DIGEST}.png"]
        assert store.locate(DIGEST) == str(files[0])

    def test_one_flipped_bit_is_found_and_putting_it_again_heals_it(self, store: LocalObjects):
        """fault 36, T18."""
        store.put(PICTURE, ".png")
        path = Path(store.locate(DIGEST))
        path.write_bytes(bytes([PICTURE[0] ^ 1]) + PICTURE[1:])
        with pytest.raises(StorageError, match="no longer has its digest"):
            store.get(DIGEST)
        store.put(PICTURE, ".png")
        assert store.get(DIGEST) == PICTURE

    @pytest.mark.parametrize(
        ("number", "remedy"), [(errno.ENOSPC, "free space"), (errno.EROFS, "mount it writable"), (errno.EACCES, "owner or mode")]
    )
    def test_a_disk_that_refuses_is_a_storage_error_and_leaves_nothing(self, store, tmp_path, monkeypatch, number, remedy):
        """fault 31, fault 32."""
        def refuse(descriptor: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", refuse)
        with pytest.raises(StorageError, match=remedy):
            store.put(PICTURE, ".png")
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []

    def test_a_file_in_the_way_of_the_folder_is_a_storage_error(self, tmp_path: Path):
        (tmp_path / "objects").write_text("in the way")
        with pytest.raises(StorageError):
            LocalObjects(tmp_path / "objects").put(PICTURE, ".png")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
    def test_a_folder_without_permission_is_a_storage_error(self, store: LocalObjects, tmp_path: Path):
        tmp_path.chmod(0o500)
        try:
            with pytest.raises(StorageError, match="owner or mode"):
                store.put(PICTURE, ".png")
        finally:
            tmp_path.chmod(0o700)
