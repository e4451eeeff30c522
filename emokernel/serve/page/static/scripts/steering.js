/** Sends the moods of a running exchange on, where they are other than those that it has. */

export class Steering {
  #exchange;
  #sent;

  constructor(exchange, feelings) {
    [this.#exchange, this.#sent] = [exchange, [JSON.stringify(feelings), true]];
  }

  /** `isSettled`: they are to stay; what was only passed through is asked for once more then. */
  async change(feelings, isSettled) {
    const asked = JSON.stringify(feelings);
    const [before, wasSettled] = this.#sent;
    if (asked === before && (wasSettled || !isSettled)) return;
    const sent = this.#sent = [asked, isSettled];
    try {
      await this.#exchange.change(feelings, isSettled);
    } catch (error) {
      if (this.#sent === sent) this.#sent = [null, false]; // it may be asked for once more
      throw error;
    }
  }
}
