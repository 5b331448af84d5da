/** Questions that are dear to answer one by one. */

/**
 * Makes a function that answers one question out of one that answers many: those that come while an
 * answer is sought wait for the next, together. An answer is never older than its question.
 *
 * @param askAll resolves with the answers in the order of the questions, and never rejects.
 */
export function inBatches<Question, Answer>(
  askAll: (questions: readonly Question[]) => Promise<readonly Answer[]>,
): (question: Question) => Promise<Answer> {
  let waiting: { question: Question; onAnswer: (answer: Answer) => void }[] = [];
  let isAsking = false;
  const answerAll = async () => {
    isAsking = true;
    while (waiting.length > 0) {
      const asked = waiting;
      waiting = [];
      const answers = await askAll(asked.map(({ question }) => question));
      for (const [index, { onAnswer }] of asked.entries()) onAnswer(answers[index]!);
    }
    isAsking = false;
  };
  return (question) =>
    new Promise((onAnswer) => {
      waiting.push({ question, onAnswer });
      if (!isAsking) void answerAll();
    });
}
