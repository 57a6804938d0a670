# The GPU's side of the library, in the two languages that it is written in. The tests compile the kernels once more,
# for the CPU. Beside them there is nccl.c, or without_nccl.c.
set(VISATB_CUDA_HOST_SOURCES
  check.c
  context.c
  cublas.c
  denominator.c
  linear_check.c
  linear_layout.c
  logits_call.c
  on_device.c
  opened_library.c
  paths.c
  scale_gradient.c
  sum_over_ranks.c
  vitw_linear_loss.c
  vitw_loss.c
  vitw_slice_loss.c)
set(VISATB_CUDA_KERNELS
  count.cu
  hidden_rows.cu
  one_read.cu
  scale.cu
  slices.cu
  sums.cu
  two_read.cu)
list(TRANSFORM VISATB_CUDA_HOST_SOURCES PREPEND "${CMAKE_CURRENT_LIST_DIR}/")
list(TRANSFORM VISATB_CUDA_KERNELS PREPEND "${CMAKE_CURRENT_LIST_DIR}/")
