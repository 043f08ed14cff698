"""Attention over parts is attention over their columns side by side, whoever shares them."""

from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from speechprompt_hf.modeling import attention_parts
from speechprompt_hf.modeling.attention_parts import attend_in_parts, parts_of_layer

HEAD_DIM = 4


@st.composite
def problems(draw):
    """Queries, parts shared by neighbouring rows, and a mask of one of its kinds."""
    num_rows, groups_of_heads, queries_a_head = draw(st.sampled_from([1, 2, 4, 6])), draw(st.integers(1, 2)), 2
    num_queries = draw(st.integers(1, 3))
    divisors = [number for number in range(1, num_rows + 1) if num_rows % number == 0]
    shapes = draw(st.lists(st.tuples(st.sampled_from(divisors), st.integers(0, 5)), min_size=1, max_size=3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    queries = torch.randn(
        num_rows, groups_of_heads * queries_a_head, num_queries, HEAD_DIM, generator=generator, dtype=torch.float64
    )
    parts = [
        tuple(
            torch.randn(2, num_groups, groups_of_heads, length, HEAD_DIM, generator=generator, dtype=torch.float64)
        )
        for num_groups, length in shapes
    ]
    length = sum(length for _, length in shapes)
    mask = torch.rand(num_rows, 1, num_queries, length, generator=generator) > 0.3
    if length:
        mask[..., 0] = True  # who sees nothing has no attention
    return queries, parts, mask, draw(st.sampled_from(["none", "bool", "floating"])), draw(st.booleans())


def side_by_side(queries, parts, index):
    """Keys or values `(B, H, M, D/H)` of all columns, a copy for every row and head."""
    return torch.cat(
        [
            part[index]
            .repeat_interleave(len(queries) // len(part[index]), 0)
            .repeat_interleave(queries.shape[1] // part[index].shape[1], 1)
            for part in parts
        ],
        dim=2,
    )


@given(problems())
def test_parts_equal_columns_side_by_side(problem):
    queries, parts, mask, kind, many = problem
    if not mask.shape[-1]:
        return
    given_mask = {
        "none": None,
        "bool": mask,
        "floating": torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, -1e30),
    }[kind]
    expected = scaled_dot_product_attention(
        queries,
        side_by_side(queries, parts, 0),
        side_by_side(queries, parts, 1),
        attn_mask=None if kind == "none" else mask,
        scale=0.3,
    ).transpose(1, 2)
    # Beyond so many queries a row the columns are laid side by side.
    with mock.patch.object(attention_parts, "_MANY_QUERIES", 0 if many else 100):
        found = attend_in_parts(queries, parts, given_mask, scaling=0.3)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bias", [0.0, 120.0])
def test_half_precision_loses_no_more_than_fused_attention(dtype, bias):
    """Also where products of queries and keys are beyond half precision's range before they are scaled."""
    torch.manual_seed(0)
    queries, keys = torch.randn(4, 2, 1, 64) + bias, torch.randn(4, 2, 30, 64) + bias
    values, scaling = torch.randn(4, 2, 30, 64), 64**-0.5
    half = [tensor.to(dtype) for tensor in (queries, keys, values)]
    exact = scaled_dot_product_attention(*(tensor.double() for tensor in half), scale=scaling)
    fused = scaled_dot_product_attention(*half, scale=scaling)
    parts = [(half[1][:, :, :10], half[2][:, :, :10]), (half[1][:, :, 10:], half[2][:, :, 10:])]
    found = attend_in_parts(half[0], parts, None, scaling=scaling).transpose(1, 2)
    assert found.isfinite().all() and found.dtype == dtype
    allowed = max(float((fused - exact).abs().max()), torch.finfo(dtype).eps)
    assert (found - exact).abs().max() <= 2 * allowed


def test_gradients_reach_every_part():
    torch.manual_seed(0)
    queries = torch.randn(4, 2, 1, HEAD_DIM)
    shared = torch.randn(2, 1, 2, 3, HEAD_DIM).requires_grad_()
    own = torch.randn(2, 4, 2, 2, HEAD_DIM).requires_grad_()
    attend_in_parts(queries, [tuple(shared), tuple(own)], None, scaling=1.0).sum().backward()
    assert shared.grad is not None and own.grad is not None
    assert shared.grad[1].abs().min() > 0 and own.grad[1].abs().min() > 0


def test_dropout_takes_weights_away():
    torch.manual_seed(0)
    queries, part = torch.randn(2, 2, 1, HEAD_DIM), tuple(torch.randn(2, 2, 2, 8, HEAD_DIM))
    plain = attend_in_parts(queries, [part], None, scaling=1.0)
    assert not torch.equal(attend_in_parts(queries, [part], None, scaling=1.0, dropout=0.5), plain)
    assert torch.equal(attend_in_parts(queries, [part], None, scaling=1.0, dropout=1.0), torch.zeros_like(plain))


@pytest.mark.parametrize("shape", [(5, 2, HEAD_DIM), (3, 5, 2, HEAD_DIM)], ids=["one for all", "one a row"])
def test_a_prompt_lies_in_front(shape):
    keys, read, own = torch.randn(shape), torch.randn(1, 2, 7, HEAD_DIM), torch.randn(3, 2, 1, HEAD_DIM)
    parts = parts_of_layer(keys, 2 * keys, (read, read), (own, own))
    assert [part[0].shape[2] for part in parts] == [5, 7, 1]
    assert len(parts[0][0]) == (1 if len(shape) == 3 else 3)
    assert torch.equal(parts[0][1], 2 * parts[0][0])
    assert len(parts_of_layer(None, None, (read, read), (own, own))) == 2
