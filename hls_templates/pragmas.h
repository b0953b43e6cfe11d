// The one macro through which every pragma of the kernels goes that an open HLS compiler may
// refuse: DCT_HLS(pipeline II=1) is #pragma HLS pipeline II=1. A test may bring its own, to count
// the iterations of pipelined loops; it stands for a statement.
#ifndef DCT_PRAGMAS_H
#define DCT_PRAGMAS_H

#ifndef DCT_HLS
#if defined(__SYNTHESIS__) && !defined(DCT_NO_PRAGMAS)
#define DCT_PRAGMA(text) _Pragma(#text)
#define DCT_HLS(...) DCT_PRAGMA(HLS __VA_ARGS__)
#else
#define DCT_HLS(...)
#endif
#endif

// Loops are labelled for the reports of the HLS tool; nothing jumps to a label.
#ifdef __GNUC__
#pragma GCC diagnostic ignored "-Wunused-label"
#endif

// Memories of a frame's size overflow the stack in C simulation. They are not static in hardware,
// where that would ask for an initialized memory.
#ifdef __SYNTHESIS__
#define DCT_MEMORY
#else
#define DCT_MEMORY static
#endif

#endif
