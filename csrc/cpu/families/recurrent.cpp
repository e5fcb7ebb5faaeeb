// recurrent.cpp: recurrent layers and their gradients.
#include "../kernels/recurrent.h"

#include "families.h"

namespace needle::NEEDLE_ISA {

void add_recurrent(KernelTable& table) {
  table.lstm = lstm;
  table.lstm_grad = lstm_grad;
  table.rnn = rnn;
  table.rnn_grad = rnn_grad;
}

}  // namespace needle::NEEDLE_ISA
